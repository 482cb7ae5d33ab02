"""What reaches a call's main loop. Everything that happens to a call arrives here, one at a time, in order."""

from dataclasses import dataclass

from edge.call.ports import LegEvent, TransferOutcome
from edge.call.preparation import Prepared
from edge.conversation.dialogue import Reply, ToolResult


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationFinished:
    """An answer is ready, or could not be made; `number` tells whether it still is the one we wait for."""

    number: int
    prepared: Prepared | None
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayoutEnded:
    """The caller heard the end of reply `number`, or it broke."""

    number: int
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFinished:
    """A tool answered, and this is what the conversation makes of it."""

    result: ToolResult
    took_s: float
    reply: Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferFinished:
    outcome: TransferOutcome
    took_s: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; deadlines are looked at."""


@dataclass(frozen=True, slots=True)
class CallerGone:
    """The caller's leg has ended."""


@dataclass(frozen=True, slots=True)
class Drained:
    """The node shuts down and the time for running calls is over."""


@dataclass(frozen=True, slots=True)
class ResumedElsewhere:
    """Another call of the caller goes on with this one, which was taken for lost."""


@dataclass(frozen=True, slots=True)
class FarewellEnded:
    """The caller has heard why the call ends, or cannot."""


Happening = (
    LegEvent
    | PreparationFinished
    | PlayoutEnded
    | ToolFinished
    | TransferFinished
    | Tick
    | CallerGone
    | Drained
    | FarewellEnded
    | ResumedElsewhere
)
