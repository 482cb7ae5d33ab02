"""One turn of a call: a committed utterance, the reply to it, and what became of both."""

from dataclasses import dataclass
from typing import Protocol

from edge.call.preparation import Prepared
from edge.conversation.dialogue import DialogueState, Reply
from edge.records.model import TurnTimings


@dataclass(frozen=True, slots=True, kw_only=True)
class UtteranceTimes:
    """When the caller fell silent and when that was noticed, on the monotonic clock (seconds)."""

    speech_end: float
    pause_seen: float


@dataclass(slots=True, kw_only=True)
class Turn:
    """A reply on its way to the caller. `before` is the state to go back to when the turn is taken back."""

    number: int
    seq: int
    began: float
    caller_text: str
    reply: Reply
    before: DialogueState
    is_protected: bool
    prepared: Prepared | None = None
    times: UtteranceTimes | None = None
    sent: float | None = None

    @property
    def timings(self) -> TurnTimings:
        """Where the time of the reply went, as far as it got."""
        if self.prepared is None or self.times is None:
            return TurnTimings()
        stages, end = self.prepared.times, self.times.speech_end
        return TurnTimings(
            pause_seen_ms=_ms(self.times.pause_seen - end),
            recognise_queue_ms=_ms(stages.recognise_queue_s),
            recognise_compute_ms=_ms(stages.recognise_compute_s),
            understand_ms=_ms(stages.understood - stages.recognised),
            audio_ready_ms=_ms(stages.audible - end),
            sent_ms=None if self.sent is None else _ms(self.sent - end),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedTurn:
    """One turn for the record: what was said and really heard. `began` is on the monotonic clock; `is_silent`: the
    reply was meant to be spoken, and synthesis gave no sound."""

    seq: int
    began: float
    caller_text: str
    agent_text: str
    reply: Reply
    was_interrupted: bool
    timings: TurnTimings
    is_silent: bool = False


class TurnListener(Protocol):
    """Who keeps the call: told of turns, and of what a reply asks to be done."""

    def turn_committed(self, reply: Reply) -> None:
        """The caller's turn is over and this reply is being spoken; tools may start now."""

    def turn_ended(self, turn: FinishedTurn) -> None:
        """The turn is final."""

    def reply_heard(self, reply: Reply) -> None:
        """The caller heard the whole reply; transfers and hang-ups may start now."""

    def audio_started(self) -> None:
        """The first audio of a reply was sent."""

    def moved(self) -> None:
        """The dialogue stands elsewhere: a reply began, a turn ended, or was taken back."""

    def barge_in_judged(self, finding: str) -> None:
        """A sound over our speech was taken for this."""


class HistoryKeeper(Protocol):
    """The part of a conversation that corrects its memory."""

    def heard_only(self, state: DialogueState, heard_text: str) -> DialogueState:
        """The state with only those words of the last reply that the caller heard."""


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
