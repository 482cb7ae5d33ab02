"""Whether an endpoint is asked for one kind of work. Pure; time comes in as a number (monotonic seconds).

Theory of operation: CLOSED -- TRIP_AFTER failures in a row --> OPEN -- pause over, next request --> PROBING (that one
request) -- answered --> CLOSED, or failed --> OPEN with twice the pause. A probe that was given up without a verdict
leaves the pause as it is. `reset` (another process listens there now) closes it from anywhere.
"""

from dataclasses import dataclass
from enum import StrEnum

# Two may be chance: a cancelled model thread, a connection that is being made anew.
TRIP_AFTER = 3
FIRST_PAUSE_S = 1.0
# An endpoint that is well again is missed for at most this long.
LONGEST_PAUSE_S = 10.0


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


@dataclass(slots=True)
class Breaker:
    """Of one endpoint and kind of work; see the module."""

    state: BreakerState = BreakerState.CLOSED
    trips: int = 0
    _failures: int = 0
    _pause_s: float = FIRST_PAUSE_S
    _opened_s: float = 0.0

    def allows(self, now_s: float) -> bool:
        """Whether a request may be sent now; changes nothing."""
        match self.state:
            case BreakerState.CLOSED:
                return True
            case BreakerState.OPEN:
                return now_s >= self._opened_s + self._pause_s
            case BreakerState.PROBING:
                return False

    def sent(self) -> None:
        """A request is on its way; the first one to an open endpoint is the probe."""
        if self.state is BreakerState.OPEN:
            self.state = BreakerState.PROBING

    def succeeded(self) -> None:
        """It was answered."""
        self.reset()

    def failed(self, now_s: float) -> None:
        """It was not, or too late to be of use."""
        self._failures += 1
        if self.state is BreakerState.CLOSED and self._failures < TRIP_AFTER:
            return
        if self.state is BreakerState.PROBING:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        if self.state is BreakerState.CLOSED:
            self.trips += 1
        self.state = BreakerState.OPEN
        self._opened_s = now_s

    def withdrawn(self) -> None:
        """Nobody waits for the answer any more; it says nothing about the endpoint."""
        if self.state is BreakerState.PROBING:
            self.state = BreakerState.OPEN

    def reset(self) -> None:
        """As new."""
        self.state = BreakerState.CLOSED
        self._failures = 0
        self._pause_s = FIRST_PAUSE_S
