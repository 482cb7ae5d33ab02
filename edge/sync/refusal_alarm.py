"""Raises an alarm when somebody is turned away at the border, and takes it back after a quiet time."""

import asyncio
import time
from pathlib import Path

from contract.alarms import AlarmCode
from contract.nats_log import RefusalKind
from edge.sync.alarms import Alarms
from edge.sync.border import BorderWatch
from edge.sync.metrics import SyncMetrics

QUIET_AFTER_S = 600.0
_LOOK_EVERY_S = 5.0


class BorderAlarm:
    """Counts refusals in the log of this node's nats-server."""

    def __init__(self, server_log: Path, node_alarms: Alarms, metrics: SyncMetrics) -> None:
        self._alarms = node_alarms
        self._metrics = metrics
        self._watch = BorderWatch(server_log, self._refused)
        self._refused_at = 0.0

    @property
    def total(self) -> int:
        """Attempts refused since the agent began."""
        return self._watch.total

    async def run(self) -> None:
        """Watch until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch.run(), name="border:log")
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                if time.monotonic() - self._refused_at > QUIET_AFTER_S:
                    self._alarms.clear(AlarmCode.BORDER_REFUSED)

    def _refused(self, kind: RefusalKind) -> None:
        self._refused_at = time.monotonic()
        self._metrics.border_refusals.labels(kind=str(kind)).inc()
        self._alarms.raise_(AlarmCode.BORDER_REFUSED)
