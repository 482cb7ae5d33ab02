"""Makes the region's bucket of sessions (edge/call/region_sessions.py): where each live call stands, never beyond.

The node agent makes it, because a call worker may make no stream. What a worker writes carries its own time to live,
the ring-back window of the tenant's policy; the bucket's age only bounds what is left of a call that was resumed.
"""

import asyncio

import structlog
from nats.js.api import KeyValueConfig
from nats.js.errors import BucketNotFoundError

from contract.subjects import SESSIONS_BUCKET, key_value_stream, key_value_subject, session
from edge.sync.connection import NATS_ERRORS, REQUEST_WITHIN_S, NatsLink, raise_if_cancelled

log = structlog.get_logger(__name__)

# How long a lost node may be away and still learn that a call of its was resumed elsewhere.
KEPT_S = 7 * 86_400.0
# About 20,000 live calls of ten turns; when it is full, calls go on and cannot be resumed elsewhere.
BUCKET_BYTES = 128 * 1024 * 1024
VALUE_BYTES = 256 * 1024
# What NATS calls a key of which nothing is left; only `forget` makes it, calls that end only delete theirs.
KEY_VALUE_OPERATION = "KV-Operation"
ERASED = "PURGE"
# Longer than any call: until then its worker finds out that nothing more is to be told of it.
ERASED_FOR_S = 86_400.0
LOOK_AGAIN_S = 5.0
LOOK_EVERY_S = 60.0


class SessionsBucket:
    """The bucket, over the agent's connection to the region's account REGION."""

    def __init__(self, link: NatsLink, *, replicas: int) -> None:
        self._link = link
        self._replicas = replicas

    async def run(self) -> None:
        """See that the bucket is there, until cancelled."""
        await self._link.ready()
        while True:
            try:
                await self.ensure()
            except NATS_ERRORS as error:
                log.debug("sessions_bucket_not_seen", detail=type(error).__name__)
                pause_s = LOOK_AGAIN_S
            else:
                pause_s = LOOK_EVERY_S
            raise_if_cancelled()
            await asyncio.sleep(pause_s)

    async def ensure(self) -> None:
        """Make the bucket unless it is there. Raises NATS_ERRORS."""
        js = self._link.client.jetstream(timeout=REQUEST_WITHIN_S)
        try:
            await js.key_value(SESSIONS_BUCKET)
        except BucketNotFoundError:
            await js.create_key_value(
                KeyValueConfig(
                    bucket=SESSIONS_BUCKET,
                    ttl=KEPT_S,
                    history=1,
                    replicas=self._replicas,
                    max_bytes=BUCKET_BYTES,
                    max_value_size=VALUE_BYTES,
                    direct=True,
                )
            )

    async def forget(self, tenant: str, subject_id: str) -> int:
        """Take all calls of a data subject to a tenant out of the region; returns how many there were.

        What stands of each call is put in place of by a mark without content, for a day: a worker that has the call
        would write it all back, and may be away. Raises NATS_ERRORS when the region has not confirmed it.
        """
        if not self._link.is_up:
            raise ConnectionError("the region's NATS is away")
        js = self._link.client.jetstream(timeout=REQUEST_WITHIN_S)
        subject = key_value_subject(SESSIONS_BUCKET, session(tenant, subject_id, "*"))
        info = await js.stream_info(key_value_stream(SESSIONS_BUCKET), subjects_filter=subject)
        found = info.state.subjects or {}
        for key in found:
            await js.publish(key, headers={KEY_VALUE_OPERATION: ERASED, "Nats-Rollup": "sub"}, msg_ttl=ERASED_FOR_S)
        return len(found)
