"""One node of a region at a time: a key in the region's own JetStream that ends by itself."""

import contextlib
from collections.abc import AsyncIterator

from nats.js.api import KeyValueConfig
from nats.js.errors import BucketNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from contract.subjects import LOCK_BUCKET
from edge.sync.connection import NATS_ERRORS, REQUEST_WITHIN_S, NatsLink

HELD_AT_MOST_S = 30.0


class RegionLock:
    """Locks of the region, over a connection to its account REGION."""

    def __init__(self, link: NatsLink, node: str, *, replicas: int) -> None:
        self._link = link
        self._node = node
        self._replicas = replicas

    @contextlib.asynccontextmanager
    async def taken(self, name: str) -> AsyncIterator[bool]:
        """Whether this node has the lock inside the block; False too when the region's JetStream does not answer."""
        key = await self._take(name)
        try:
            yield key
        finally:
            if key:
                with contextlib.suppress(*NATS_ERRORS):
                    await (await self._bucket()).purge(name)

    async def _take(self, name: str) -> bool:
        if not self._link.is_up:
            return False
        try:
            await (await self._bucket()).create(name, self._node.encode())
        except (KeyWrongLastSequenceError, *NATS_ERRORS):
            return False
        return True

    async def _bucket(self) -> KeyValue:
        js = self._link.client.jetstream(timeout=REQUEST_WITHIN_S)
        try:
            return await js.key_value(LOCK_BUCKET)
        except BucketNotFoundError:
            config = KeyValueConfig(bucket=LOCK_BUCKET, ttl=HELD_AT_MOST_S, history=1, replicas=self._replicas)
            return await js.create_key_value(config)
