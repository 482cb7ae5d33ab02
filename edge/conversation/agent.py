"""What an operator's documents say, as immutable records: agents, intents, slots, flows, rules of escalation.

`documents` reads and checks the YAML; nothing here knows about files.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class SlotKind(StrEnum):
    """What a slot holds."""

    DIGITS = "digits"
    YES_NO = "yes_no"
    CHOICE = "choice"
    AMOUNT = "amount"
    TEXT = "text"
    ITEM = "item"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One value of a CHOICE slot and the words that mean it."""

    value: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """A piece of information a flow collects. `digits`: exact count for DIGITS; `source`: knowledge for ITEM."""

    name: str
    kind: SlotKind
    digits: int | None = None
    choices: tuple[Choice, ...] = ()
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Ask until the slot is filled; skipped when it already is."""

    slot: str
    prompt: str
    reprompts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm:
    """Read back and wait for yes; "no" empties the slots of `retry` and asks them again."""

    prompt: str
    retry: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UseTool:
    """Run a tool while `filler` plays; a failure says `failed` and hands over to a human if `hand_over`."""

    tool: str
    arguments: Mapping[str, str]
    filler: str
    failed: str
    hand_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Say:
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """End the flow with a human."""

    reason: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """End the flow, and the call too if `hang_up`."""

    text: str
    hang_up: bool = False


StepAct = Ask | Confirm | UseTool | Say | HandOver | Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a flow; `when`: taken only while all these slots hold these values."""

    act: StepAct
    when: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A task of several turns. `title` is spoken: "Let's go on with your {title}"."""

    name: str
    title: str
    slots: tuple[Slot, ...]
    steps: tuple[Step, ...]
    cancelled: str

    def slot(self, name: str) -> Slot:
        return next(slot for slot in self.slots if slot.name == name)


class ReplyStyle(StrEnum):
    """How an answer is worded: as written, or by the language model under grounding."""

    SPEAK = "speak"
    GENERATE = "generate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A template; `when`: used only if the item's attributes have these values."""

    text: str
    when: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """Something callers want. Exactly one of answers, knowledge, flow, escalate, goodbye says what happens.

    `item`: the knowledge source whose item the answer is about (a product); asked for when the caller named none.
    """

    name: str
    title: str
    examples: tuple[str, ...]
    answers: tuple[Answer, ...] = ()
    item: str | None = None
    knowledge: str | None = None
    flow: str | None = None
    escalate: str | None = None
    goodbye: bool = False
    style: ReplyStyle = ReplyStyle.SPEAK


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeSource:
    """Knowledge that an agent answers from. `mention`: what an item of it is called in a question ("the product").
    `path`: a file of items; None where they come from the tenant's replica."""

    name: str
    path: Path | None
    mention: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """Asked after the greeting; nothing else happens before a yes to a prompt that was heard in full.

    `is_carried_over`: a caller who was cut off and rings back need not be asked again. Never where the tenant must have
    an opt-in (`governance.recording`), or does not say: another person may hold the telephone.
    """

    prompt: str
    again: str
    accepted: str
    declined: str
    is_carried_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bands:
    """Confidence from which an intent is answered, and from which it is at least asked about."""

    answer: float = 0.6
    confirm: float = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """When the agent acts on its own and when a human takes over.

    `ring_back_s`: how long a caller who was cut off may ring back to go on with the call; 0: never.
    """

    bands: Bands = field(default_factory=Bands)
    misunderstandings: int = 2
    sensitive: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    generation_budget_s: float = 0.6
    ring_back_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrases:
    """The fixed sentences of an agent. `{question}` in `confirm` is what we think was meant, `{title}` in
    `ring_back_topic` and `back_to_flow` what the call was about."""

    not_known: tuple[str, ...]
    not_understood: tuple[str, ...]
    confirm: str
    which_item: str
    anything_else: str
    escalating: str
    transfer_failed: Mapping[str, str]
    no_input: tuple[str, ...]
    silence_goodbye: str
    goodbye: str
    resume: str
    ring_back: str
    ring_back_topic: str
    back_to_flow: str
    filler: tuple[str, ...]
    more_digits: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """A value that a tool takes; checked before the call."""

    kind: SlotKind
    digits: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """A webhook: POST of JSON arguments to `url`, flat JSON back. `secret_file` holds a bearer token."""

    name: str
    url: str | None
    arguments: Mapping[str, Argument]
    timeout_s: float = 3.0
    response_limit_bytes: int = 16_384
    secret_file: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Everything that makes one agent of a tenant. `numbers` are answered by it; `human` is a SIP URI or a number that
    the trunk can reach."""

    tenant: str
    title: str
    name: str
    numbers: tuple[str, ...]
    timezone: str
    language: str
    voice: str
    greeting: str
    human: str
    consent: Consent | None
    sources: tuple[KnowledgeSource, ...]
    intents: tuple[Intent, ...]
    flows: Mapping[str, Flow]
    tools: Mapping[str, ToolSpec]
    phrases: Phrases
    policy: Policy

    def intent(self, name: str) -> Intent | None:
        return next((intent for intent in self.intents if intent.name == name), None)


def texts_of(act: StepAct) -> tuple[str, ...]:
    """Return the templates a step may speak."""
    match act:
        case Ask(prompt=prompt, reprompts=reprompts):
            return (prompt, *reprompts)
        case Confirm(prompt=prompt):
            return (prompt,)
        case UseTool(filler=filler, failed=failed):
            return (filler, failed)
        case Say(text=text) | HandOver(text=text) | Finish(text=text):
            return (text,)
