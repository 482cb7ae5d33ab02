"""What an operator must know now: one code each, on /metrics, in the log, and in every health message to the hub."""

import structlog
from prometheus_client import CollectorRegistry, Gauge

from contract.alarms import AlarmCode

log = structlog.get_logger(__name__)

HUB_UNREACHABLE = AlarmCode.HUB_UNREACHABLE
LINK_STALLED = AlarmCode.LINK_STALLED
CONFIG_STALE = AlarmCode.CONFIG_STALE
KNOWLEDGE_STALE = AlarmCode.KNOWLEDGE_STALE
CONFIG_REFUSED = AlarmCode.CONFIG_REFUSED
KNOWLEDGE_REFUSED = AlarmCode.KNOWLEDGE_REFUSED
WORKERS_BEHIND = AlarmCode.WORKERS_BEHIND
WORKERS_MISSING = AlarmCode.WORKERS_MISSING
ROLLUPS_WAITING = AlarmCode.ROLLUPS_WAITING
ROLLUPS_COARSE = AlarmCode.ROLLUPS_COARSE
NATS_DOWN = AlarmCode.NATS_DOWN
BORDER_REFUSED = AlarmCode.BORDER_REFUSED
REPLICATION_STALLED = AlarmCode.REPLICATION_STALLED
DISK_LOW = AlarmCode.DISK_LOW
DISK_CRITICAL = AlarmCode.DISK_CRITICAL
DISK_FULL = AlarmCode.DISK_FULL


class Alarms:
    """The alarms of this node. Raising or clearing one twice changes nothing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauge = Gauge("borough_alarm", "1 while the alarm is raised", ("code",), registry=registry)
        self._raised: dict[AlarmCode, None] = {}
        for code in AlarmCode:
            self._gauge.labels(code=code).set(0)

    def raise_(self, code: str) -> None:
        """Raise an alarm; logged when it is new. Raises ValueError for a code that the hub would refuse."""
        if code not in self._raised:
            self._raised[AlarmCode(code)] = None
            self._gauge.labels(code=code).set(1)
            log.warning("alarm_raised", code=code)

    def clear(self, code: str) -> None:
        """Take an alarm back; logged when it was raised."""
        if code in self._raised:
            del self._raised[AlarmCode(code)]
            self._gauge.labels(code=code).set(0)
            log.info("alarm_cleared", code=code)

    def set(self, code: str, *, is_raised: bool) -> None:
        """Raise or clear, as a check just found."""
        if is_raised:
            self.raise_(code)
        else:
            self.clear(code)

    def raised(self) -> tuple[AlarmCode, ...]:
        """The codes that are raised, oldest first."""
        return tuple(self._raised)
