"""What an operator must know now: one code each, on /metrics, in the log, and in every health message to the hub."""

import structlog
from prometheus_client import CollectorRegistry, Gauge

log = structlog.get_logger(__name__)

HUB_UNREACHABLE = "hub_unreachable"
LINK_STALLED = "link_stalled"
CONFIG_STALE = "config_stale"
KNOWLEDGE_STALE = "knowledge_stale"
CONFIG_REFUSED = "config_refused"
KNOWLEDGE_REFUSED = "knowledge_refused"
WORKERS_BEHIND = "workers_behind"
WORKERS_MISSING = "workers_missing"
ROLLUPS_WAITING = "rollups_waiting"
ROLLUPS_COARSE = "rollups_coarse"
NATS_DOWN = "nats_down"
BORDER_REFUSED = "border_refused"
REPLICATION_STALLED = "replication_stalled"
DISK_LOW = "disk_low"
DISK_CRITICAL = "disk_critical"
DISK_FULL = "disk_full"
ALL = (
    HUB_UNREACHABLE,
    LINK_STALLED,
    CONFIG_STALE,
    KNOWLEDGE_STALE,
    CONFIG_REFUSED,
    KNOWLEDGE_REFUSED,
    WORKERS_BEHIND,
    WORKERS_MISSING,
    ROLLUPS_WAITING,
    ROLLUPS_COARSE,
    NATS_DOWN,
    BORDER_REFUSED,
    REPLICATION_STALLED,
    DISK_LOW,
    DISK_CRITICAL,
    DISK_FULL,
)


class Alarms:
    """The alarms of this node. Raising or clearing one twice changes nothing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._gauge = Gauge("borough_alarm", "1 while the alarm is raised", ("code",), registry=registry)
        self._raised: dict[str, None] = {}
        for code in ALL:
            self._gauge.labels(code=code).set(0)

    def raise_(self, code: str) -> None:
        """Raise an alarm; logged when it is new."""
        if code not in self._raised:
            self._raised[code] = None
            self._gauge.labels(code=code).set(1)
            log.warning("alarm_raised", code=code)

    def clear(self, code: str) -> None:
        """Take an alarm back; logged when it was raised."""
        if code in self._raised:
            del self._raised[code]
            self._gauge.labels(code=code).set(0)
            log.info("alarm_cleared", code=code)

    def set(self, code: str, *, is_raised: bool) -> None:
        """Raise or clear, as a check just found."""
        if is_raised:
            self.raise_(code)
        else:
            self.clear(code)

    def raised(self) -> tuple[str, ...]:
        """The codes that are raised, oldest first."""
        return tuple(self._raised)
