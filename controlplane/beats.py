"""Proves to every region that its streams still flow: one small message a stream every two seconds."""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext

from contract.downlink_pb2 import Beat
from contract.subjects import config_beat, config_stream, knowledge_beat, knowledge_stream
from controlplane.cancelling import raise_if_cancelled
from controlplane.lease import Lease
from controlplane.metrics import HubMetrics

log = structlog.get_logger(__name__)

PERIOD_S = 2.0
PUBLISH_WITHIN_S = 1.5


class Beats:
    """Sends the beats of all regions for as long as the lease is held."""

    def __init__(
        self,
        jetstream: JetStreamContext,
        regions: Callable[[], Sequence[str]],
        lease: Lease,
        metrics: HubMetrics,
        failed: Callable[[], None],
    ) -> None:
        """`failed` is told of every beat that no stream took."""
        self._failed = failed
        self._jetstream = jetstream
        self._regions = regions
        self._lease = lease
        self._metrics = metrics
        self._seq = 0

    async def run(self) -> None:
        """Beat for ever. Raises LeaseLostError."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._lease.check()
            self._seq += 1
            await asyncio.gather(*(self._beat(subject, stream) for subject, stream in self._subjects()))
            raise_if_cancelled()
            due = max(due + PERIOD_S, loop.time())
            await asyncio.sleep(due - loop.time())

    def _subjects(self) -> list[tuple[str, str]]:
        return [
            pair
            for region in self._regions()
            for pair in (
                (config_beat(region), config_stream(region)),
                (knowledge_beat(region), knowledge_stream(region)),
            )
        ]

    async def _beat(self, subject: str, stream: str) -> None:
        beat = Beat(sent_at_ms=time.time_ns() // 1_000_000, seq=self._seq)
        try:
            await self._jetstream.publish(subject, beat.SerializeToString(), timeout=PUBLISH_WITHIN_S, stream=stream)
        except (NatsError, TimeoutError) as error:
            self._metrics.beats_failed.inc()
            self._failed()
            log.warning("beat_failed", stream=stream, error=type(error).__name__)
