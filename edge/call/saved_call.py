"""Where a running call stands, as one message that another worker can go on from.

Theory of operation. A session saves its call whenever the dialogue moved: a reply began, a turn ended or was taken
back, a transfer or a tool began or ended. Each message replaces the one before. Who adopts the call gets the last one.
It holds personal content and is sealed with the subject's key wherever it lies (`CallStates`).

The message is JSON with a version. A release may add fields with defaults, which older ones ignore; whatever else
changes makes another version, and a worker that does not know it says so (CallStateInvalidError) and begins anew.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from edge.call.errors import CallStateInvalidError
from edge.conversation.dialogue import (
    Action,
    DialogueState,
    EndCall,
    Escalate,
    Reply,
    RunTool,
    Speech,
    Understanding,
)
from edge.records.model import Adopted, Orphan
from edge.records.subjects import SubjectId

VERSION = 1


class Phase(StrEnum):
    """What the call is about to do, apart from its turns."""

    TALKING = "talking"
    TRANSFERRING = "transferring"
    WITH_HUMAN = "with_human"


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedAction:
    """One of the actions of a reply."""

    escalate: Escalate | None = None
    end_call: EndCall | None = None
    run_tool: RunTool | None = None

    @classmethod
    def of(cls, action: Action | None) -> "SavedAction | None":
        """The action as it is saved."""
        match action:
            case Escalate():
                return cls(escalate=action)
            case EndCall():
                return cls(end_call=action)
            case RunTool():
                return cls(run_tool=action)
            case None:
                return None

    @property
    def action(self) -> Action | None:
        """The action as the conversation made it."""
        return self.escalate or self.end_call or self.run_tool


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedTurn:
    """A committed turn whose reply was being spoken. `began_ms`: UTC since 1970."""

    seq: int
    began_ms: int
    caller_text: str
    understanding: Understanding
    speeches: tuple[Speech, ...]
    action: SavedAction | None
    is_protected: bool

    def reply(self, state: DialogueState) -> Reply:
        """The reply, which left the dialogue in `state`."""
        action = self.action.action if self.action is not None else None
        return Reply(
            state=state, understanding=self.understanding, speeches=self.speeches, is_complete=True, action=action
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCall:
    """A running call. `turn` is the one whose reply is being spoken; `action` what the call is busy with (a transfer,
    a tool whose answer is awaited); `next_seq` the number of the next turn; `silences` how often in a row the caller
    said nothing; `intent` the last one that was acted on; `first_audio_ms` as in the call's record; `tool_key` makes
    another run of the same tool the same act."""

    call_id: str
    tenant: str
    agent: str
    subject_id: SubjectId
    phase: Phase
    dialogue: DialogueState
    next_seq: int
    silences: int
    intent: str
    first_audio_ms: int | None = None
    turn: SavedTurn | None = None
    action: SavedAction | None = None
    tool_key: str = ""
    version: int = VERSION

    def after(self, next_seq: int) -> "SavedCall":
        """The call once its records have got to turn `next_seq`: a reply that was put on record was heard."""
        if self.turn is None or next_seq <= self.turn.seq:
            return self
        return replace(self, turn=None, action=self.action or self.turn.action)


class CallStates(Protocol):
    """Where the states of running calls are, and who may go on with them.

    On one node the tenant's database, in which an adoption is one transaction (`edge.call.recorded_states`).
    """

    def keep(self, call: SavedCall) -> None:
        """Take the newest state of a call of ours; returns at once."""

    def sweeping(self) -> AbstractAsyncContextManager[None]:
        """Be the only worker of the node that looks after calls of dead ones; waits for its turn."""

    async def open_calls(self) -> Sequence[Orphan]:
        """The open calls of all workers, the dead ones' among them."""

    async def orphans(self) -> Sequence[Orphan]:
        """The open calls of dead workers."""

    async def adopt(self, orphan: Orphan, *, goes_on: bool) -> Adopted | None:
        """Make a call ours, which one worker alone can, to go on with it or to end it; None where another was faster,
        or it has ended.

        Raises RecordsError.
        """

    async def close_orphans(self) -> int:
        """End in the records what nobody adopted; returns how many calls."""


class Sessions(Protocol):
    """Who tells the region where the calls of this worker stand (`edge.call.region_sessions`)."""

    def keep(self, call: SavedCall, *, window_s: float) -> None:
        """Take the newest state of a call that may be resumed for so long after it; returns at once."""

    def ended(self, call_id: str, *, is_cut_off: bool) -> None:
        """A call is over; cut off: by us, so that its caller may ring back to go on. Returns at once."""


class NoSessions:
    """A node on its own: there is nobody to tell."""

    def keep(self, call: SavedCall, *, window_s: float) -> None:
        """Forget it."""

    def ended(self, call_id: str, *, is_cut_off: bool) -> None:
        """Forget it."""


_CODEC = TypeAdapter(SavedCall)
_VERSION = TypeAdapter(dict[str, object])


def encode(call: SavedCall) -> bytes:
    """The message."""
    return _CODEC.dump_json(call)


def decode(message: bytes) -> SavedCall:
    """The call of a message. Raises CallStateInvalidError for what is none, or of a version that we do not know."""
    try:
        version = _VERSION.validate_json(message).get("version")
        if version != VERSION:
            raise CallStateInvalidError(f"version {version!r}, this release knows {VERSION}")
        call = _CODEC.validate_json(message, strict=True)
    except ValidationError as error:
        # Without the input: it holds what was said.
        fields = ", ".join(sorted({".".join(map(str, each["loc"])) or each["type"] for each in error.errors()}))
        raise CallStateInvalidError(f"not the state of a call: {fields}") from None
    return replace(call, action=_exactly_one(call.action), turn=_checked(call.turn))


def _checked(turn: SavedTurn | None) -> SavedTurn | None:
    return None if turn is None else replace(turn, action=_exactly_one(turn.action))


def _exactly_one(saved: SavedAction | None) -> SavedAction | None:
    if saved is not None and sum(each is not None for each in (saved.escalate, saved.end_call, saved.run_tool)) != 1:
        raise CallStateInvalidError("an action is of one kind")
    return saved
