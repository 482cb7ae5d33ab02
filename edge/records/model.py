"""The rows of a tenant's records. Times of day are aware UTC, exact to the millisecond; durations integer ms."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from edge.call.ports import HangupCause, TransferOutcome
from edge.conversation.dialogue import CallOutcome, Citation
from edge.records.presence import RunId
from edge.records.subjects import SubjectId


class Transport(StrEnum):
    """How the caller's audio reaches us."""

    SIP = "sip"
    WEBRTC = "webrtc"


class ContentState(StrEnum):
    """Whether personal content could be read; its fields are empty in every state but READABLE.

    ERASED: the data subject's key was destroyed. SEALED: the key, or the master key that wraps it, is not on this node.
    DAMAGED: the content was changed, or moved here from another row. ABSENT: there is no content, because its row was
    erased or the disk had no room for it.
    """

    READABLE = "readable"
    ERASED = "erased"
    SEALED = "sealed"
    DAMAGED = "damaged"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """One call, as far as it got; written again (same `call_id`) when more is known.

    `first_audio_ms` is from answering to the first audio of the agent.
    """

    call_id: str
    tenant: str
    agent: str
    agent_version: str
    subject_id: SubjectId
    called_number: str
    transport: Transport
    started_at: datetime
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: CallOutcome | None = None
    hangup_cause: HangupCause | None = None
    reason: str | None = None
    first_audio_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTimings:
    """Where the time of a reply went; None where a stage did not run (prepared audio, a greeting).

    `pause_seen_ms`, `audio_ready_ms` and `sent_ms` count from the end of the caller's speech; the others are how
    long the stage took.
    """

    pause_seen_ms: int | None = None
    recognise_queue_ms: int | None = None
    recognise_compute_ms: int | None = None
    understand_ms: int | None = None
    audio_ready_ms: int | None = None
    sent_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecord:
    """One committed turn; `agent_text` holds only words that the caller heard.

    `is_silent`: the reply was meant to be spoken, and no sound of it was made.
    """

    call_id: str
    tenant: str
    subject_id: SubjectId
    seq: int
    began_at: datetime
    caller_text: str
    agent_text: str
    intent: str | None = None
    confidence: float | None = None
    citations: tuple[Citation, ...] = ()
    was_interrupted: bool = False
    is_silent: bool = False
    timings: TurnTimings = TurnTimings()
    content_state: ContentState = ContentState.READABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRunRecord:
    """One call of a tool; its arguments and results are personal content and stay out."""

    call_id: str
    tenant: str
    seq: int
    tool: str
    began_at: datetime
    took_ms: int
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferRecord:
    """One attempt to reach a human."""

    call_id: str
    tenant: str
    seq: int
    destination: str
    reason: str
    began_at: datetime
    took_ms: int
    outcome: TransferOutcome
    content_state: ContentState = ContentState.READABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class StateRecord:
    """Where a running call stands, for the worker that takes it over; replaces the one before. `state` is personal
    content and sealed as a whole."""

    call_id: str
    tenant: str
    subject_id: SubjectId
    state: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumesRecord:
    """A call goes on with one that was cut off on `from_node`. `consent`: whether that of the old call counts
    ("carried"), was asked anew ("asked"), or none is needed ("none")."""

    call_id: str
    tenant: str
    resumes: str
    from_node: str
    consent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOffRecord:
    """A call that was cut off was resumed as another, perhaps on another node. Written once, whoever had the call."""

    call_id: str
    tenant: str
    resumed_as: str


Record = CallRecord | TurnRecord | ToolRunRecord | TransferRecord | StateRecord | ResumesRecord | CutOffRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumptions:
    """What is known of a call being cut off: the call that it goes on with, and the one that went on with it."""

    resumes: str | None = None
    resumed_as: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOffCall:
    """A call that ended as failed, and that nobody is known to have resumed."""

    tenant: str
    subject_id: SubjectId
    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """An open call whose worker is dead; `run` is None for calls of a release that did not say."""

    call_id: str
    tenant: str
    agent: str
    transport: Transport
    run: RunId | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """The wish to have an orphan: to go on with its call, or only to end it."""

    orphan: Orphan
    goes_on: bool

    @property
    def call_id(self) -> str:
        return self.orphan.call_id

    @property
    def tenant(self) -> str:
        return self.orphan.tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """An orphan that is ours now, as far as its records tell. `state` is None where none was written, or none can be
    read; the counts are those of the rows that are there, `next_seq` is that of the next turn; `last_known_at` is the
    last moment of which a row tells."""

    call: CallRecord
    state: bytes | None
    next_seq: int
    tool_runs: int
    transfers: int
    last_known_at: datetime
