"""One node of a region at a time: a key in the region's own JetStream that ends by itself."""

import contextlib
from collections.abc import AsyncIterator

from nats.js.api import KeyValueConfig
from nats.js.errors import KeyWrongLastSequenceError

from edge.sync.connection import NATS_ERRORS, NatsLink

BUCKET = "sync-locks"
HELD_AT_MOST_S = 30.0


class RegionLock:
    """Locks of the region, over a connection to its account REGION."""

    def __init__(self, link: NatsLink, node: str) -> None:
        self._link = link
        self._node = node

    @contextlib.asynccontextmanager
    async def taken(self, name: str) -> AsyncIterator[bool]:
        """Whether this node has the lock inside the block; False too when the region's JetStream does not answer."""
        key = await self._take(name)
        try:
            yield key
        finally:
            if key:
                with contextlib.suppress(*NATS_ERRORS):
                    bucket = await self._link.client.jetstream().key_value(BUCKET)
                    await bucket.purge(name)

    async def _take(self, name: str) -> bool:
        if not self._link.is_up:
            return False
        js = self._link.client.jetstream()
        try:
            bucket = await js.create_key_value(KeyValueConfig(bucket=BUCKET, ttl=HELD_AT_MOST_S, history=1))
            await bucket.create(name, self._node.encode())
        except (KeyWrongLastSequenceError, *NATS_ERRORS):
            return False
        return True
