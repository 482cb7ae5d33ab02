"""Raises an alarm when somebody is turned away at the border, and takes it back after a quiet time."""

import asyncio
import time
from pathlib import Path

import structlog

from contract.alarms import AlarmCode
from contract.nats_log import RefusalKind, RefusalTally
from edge.sync.alarms import Alarms
from edge.sync.border import BorderWatch
from edge.sync.metrics import SyncMetrics

log = structlog.get_logger(__name__)

QUIET_AFTER_S = 600.0
_LOOK_EVERY_S = 5.0


class BorderAlarm:
    """Counts refusals: those in the log of this node's nats-server, and those that others tell `refused`."""

    def __init__(self, server_log: Path | None, node_alarms: Alarms, metrics: SyncMetrics) -> None:
        self._alarms = node_alarms
        self._metrics = metrics
        self._tally = RefusalTally()
        self._watch = BorderWatch(server_log, self.refused, self._skipped) if server_log is not None else None
        self._refused_at = 0.0
        self.total = 0

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            if self._watch is not None:
                tasks.create_task(self._watch.run(), name="border:log")
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                for kind, count in self._tally.due(time.monotonic()).items():
                    log.warning("border_refused", kind=str(kind), count=count)
                if time.monotonic() - self._refused_at > QUIET_AFTER_S:
                    self._alarms.clear(AlarmCode.BORDER_REFUSED)

    def refused(self, kind: RefusalKind) -> None:
        """Somebody was turned away."""
        self._refused_at = time.monotonic()
        self.total += 1
        self._metrics.border_refusals.labels(kind=str(kind)).inc()
        self._alarms.raise_(AlarmCode.BORDER_REFUSED)
        if count := self._tally.add(kind, self._refused_at):
            log.warning("border_refused", kind=str(kind), count=count)

    def _skipped(self, skipped_bytes: int) -> None:
        self._metrics.border_log_skipped.inc(skipped_bytes)
        log.warning("border_log_skipped", skipped_bytes=skipped_bytes)
        self._refused_at = time.monotonic()
        self._alarms.raise_(AlarmCode.BORDER_REFUSED)
