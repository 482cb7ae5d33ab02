"""What an operator must know now: one code each, on /metrics, in the log, and in every health message to the hub."""

import structlog
from prometheus_client import CollectorRegistry, Gauge

from contract.alarms import AlarmCode

log = structlog.get_logger(__name__)


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
