"""Who called whom within a day, known to all nodes of a region: a key-value bucket in its account REGION, never beyond.

The value of a key, and why nodes that tell at once agree, is in edge/rollups/recent.py. A value is replaced only while
it is the one that was read; who comes second reads again. Where NATS is known to be away nothing waits; where it stands
still, the first request that is not answered ends the telling. What could not be told is told at a later cut.
"""

import asyncio
import contextlib
import time
from collections.abc import Iterator, Sequence

import structlog
from nats.js.api import KeyValueConfig
from nats.js.errors import BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError
from nats.js.kv import KeyValue

from contract.subjects import RECENT_CALLERS_BUCKET, key_value_stream, key_value_subject, recent_caller
from edge.rollups.recent import Sighting, by_subject, note
from edge.sync.connection import NATS_ERRORS, REQUEST_WITHIN_S, NatsLink

log = structlog.get_logger(__name__)

# A day, and an hour for a node that is late to tell.
KEPT_S = 25 * 3600.0
# About 350,000 callers; when it is full, nodes judge by their own records.
BUCKET_BYTES = 64 * 1024 * 1024
VALUE_BYTES = 128 * 1024
WITHIN_S = 10.0
AT_ONCE = 16
_ATTEMPTS = 10
_AGAIN_AFTER_S = 0.01
Group = tuple[tuple[str, str], list[Sighting]]


class RecentCallers:
    """The bucket, over a connection to the region's account REGION."""

    def __init__(self, link: NatsLink, *, replicas: int) -> None:
        self._link = link
        self._replicas = replicas

    async def tell(self, sightings: Sequence[Sighting]) -> dict[str, bool]:
        """Tell the region of these calls; by call id, whether it knew another one of the subject within 24 h.

        Calls that could not be told are not in the answer.
        """
        repeated: dict[str, bool] = {}
        if not sightings or not self._link.is_up:
            return repeated
        groups, until = iter(by_subject(sightings).items()), time.monotonic() + WITHIN_S
        try:
            bucket = await self._bucket()
            async with asyncio.TaskGroup() as tellers:
                for _ in range(AT_ONCE):
                    tellers.create_task(self._tell_some(bucket, groups, until, repeated), name="rollups:tell")
        except* NATS_ERRORS as group:
            log.warning("region_not_told", detail=type(group.exceptions[0]).__name__)
        return repeated

    async def forget(self, tenant: str, subject_id: str) -> None:
        """Take a subject's calls to a tenant out of the region; nothing, not even a marker of the key, is left.

        Forget after the records were erased on every node, or a cut tells of them again. Raises NATS_ERRORS when the
        region has not confirmed it.
        """
        if not self._link.is_up:
            raise ConnectionError("the region's NATS is away")
        js = self._link.client.jetstream(timeout=REQUEST_WITHIN_S)
        subject = key_value_subject(RECENT_CALLERS_BUCKET, recent_caller(tenant, subject_id))
        with contextlib.suppress(NotFoundError):
            await js.purge_stream(key_value_stream(RECENT_CALLERS_BUCKET), subject=subject)

    async def _tell_some(
        self, bucket: KeyValue, groups: Iterator[Group], until: float, repeated: dict[str, bool]
    ) -> None:
        for (tenant, subject_id), group in groups:
            if time.monotonic() > until:
                return
            repeated.update(await _entered(bucket, recent_caller(tenant, subject_id), group))

    async def _bucket(self) -> KeyValue:
        js = self._link.client.jetstream(timeout=REQUEST_WITHIN_S)
        try:
            return await js.key_value(RECENT_CALLERS_BUCKET)
        except BucketNotFoundError:
            config = KeyValueConfig(
                bucket=RECENT_CALLERS_BUCKET,
                ttl=KEPT_S,
                history=1,
                replicas=self._replicas,
                max_bytes=BUCKET_BYTES,
                max_value_size=VALUE_BYTES,
            )
            return await js.create_key_value(config)


async def _entered(bucket: KeyValue, key: str, group: Sequence[Sighting]) -> dict[str, bool]:
    """Enter calls under a key; empty when others wrote at the same time again and again."""
    for attempt in range(_ATTEMPTS):
        value, revision = await _read(bucket, key)
        entered, repeated = note(value, group)
        if entered == value:
            return repeated
        try:
            await bucket.update(key, entered, last=revision)
        except KeyWrongLastSequenceError:
            await asyncio.sleep(attempt * _AGAIN_AFTER_S)
        else:
            return repeated
    return {}


async def _read(bucket: KeyValue, key: str) -> tuple[bytes, int]:
    try:
        entry = await bucket.get(key)
    except KeyNotFoundError as error:
        # Deleted by hand: the marker has a revision of its own.
        return b"", (error.entry.revision or 0) if error.entry is not None else 0
    return entry.value or b"", entry.revision or 0
