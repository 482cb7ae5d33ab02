"""What a call tells those who watch it live (the web page, later the desk). Watching never slows a call."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from edge.conversation.dialogue import CallOutcome
from edge.records.model import TurnTimings


class CallActivity(StrEnum):
    """What the agent is doing."""

    CONNECTING = "connecting"
    LISTENING = "listening"
    THINKING = "thinking"
    SPEAKING = "speaking"
    TRANSFERRING = "transferring"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """The agent began to do something else."""

    activity: CallActivity


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSaid:
    """Words of the caller; a partial (`is_final` false) is replaced by the next one of the same turn."""

    seq: int
    text: str
    is_final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSaid:
    """Words of the agent in turn `seq`, as far as they were heard; replaces what was told before of this turn."""

    seq: int
    text: str
    was_interrupted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTimed:
    """Where the time of the reply in turn `seq` went."""

    seq: int
    timings: TurnTimings


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded:
    """The call is over; nothing follows."""

    outcome: CallOutcome
    reason: str


CallEvent = StateChanged | CallerSaid | AgentSaid | TurnTimed | CallEnded


class CallObserver(Protocol):
    def observe(self, event: CallEvent) -> None:
        """Take note of an event. Returns at once and never raises; on overflow it forgets the oldest."""


class NobodyWatches:
    """The observer of a call that nobody watches."""

    def observe(self, event: CallEvent) -> None:
        """Forget the event."""
