"""The vocabulary between a call and its conversation: what was said, what comes next, what we expect to hear.

Everything here is immutable. `respond` of a conversation takes a `DialogueState` and returns a `Reply` that carries
the next state, so a reply can be prepared while the caller may still go on, and dropped without a trace.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class SpeechSource(StrEnum):
    """Where the words of the agent come from."""

    TEMPLATE = "template"
    PASSAGE = "passage"
    GENERATED = "generated"
    TOOL = "tool"


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """The knowledge that a sentence rests on."""

    item_id: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """A sentence or two of the agent, spoken as one clip."""

    text: str
    source: SpeechSource
    citation: Citation | None = None


class AnswerKind(StrEnum):
    """What the agent's last words ask for; the endpointer waits accordingly."""

    OPEN = "open"
    YES_NO = "yes_no"
    DIGITS = "digits"
    CHOICE = "choice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """The answer that would complete the question just asked.

    `digits` is the exact count wanted (None: any count); `choices` are the words of a CHOICE.
    """

    kind: AnswerKind = AnswerKind.OPEN
    digits: int | None = None
    choices: tuple[str, ...] = ()


class CallOutcome(StrEnum):
    """How a call ended, for its record."""

    CONTAINED = "contained"
    ESCALATED = "escalated"
    ABANDONED = "abandoned"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalate:
    """Hand the caller to a human: `destination` is a SIP URI, `briefing` is spoken to the human alone,
    `summary` is the JSON the desk shows."""

    reason: str
    destination: str
    briefing: str
    summary: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndCall:
    """Say what is left, let it drain, hang up."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTool:
    """Call a tool, then `after_tool`. Never executed for a speculative reply."""

    tool: str
    arguments: Mapping[str, str]


Action = Escalate | EndCall | RunTool


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What a tool gave back: `fields` on success, else `error` for the record."""

    tool: str
    fields: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One turn of the history: what the caller said and what they heard in return (heard words only)."""

    caller: str
    agent: str
    intent: str


class PendingKind(StrEnum):
    """A question of the agent outside any flow, which a yes or a name answers."""

    CONSENT = "consent"
    MEANING = "meaning"
    HUMAN = "human"
    ITEM = "item"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """What the agent asked last. `intent` and `item_id`: what a yes stands for (MEANING), what the item is wanted for
    (ITEM); `choices`: ids of the items that were offered. `is_heard` is False when the caller cannot
    have heard the whole question: then a yes answers nothing."""

    kind: PendingKind
    intent: str = ""
    item_id: str | None = None
    choices: tuple[str, ...] = ()
    is_heard: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DialogueState:
    """Where a conversation stands between two turns."""

    history: tuple[Exchange, ...] = ()
    flow: str | None = None
    step: int = 0
    slots: Mapping[str, str] = field(default_factory=dict)
    topic_item_id: str | None = None
    misunderstandings: int = 0
    expectation: Expectation = Expectation()
    last_speech: str = ""
    pending: Pending | None = None
    has_consent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Understanding:
    """What the caller wants, with a calibrated probability that this is right."""

    intent: str
    confidence: float
    slots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What the agent says and does next; `is_complete` tells the endpointer that the words heard make a whole
    request, so that it need not wait for more."""

    state: DialogueState
    understanding: Understanding
    speeches: tuple[Speech, ...]
    is_complete: bool
    action: Action | None = None
