"""The shape of documents as an operator writes them; the hub and the nodes check the same. No file is read here."""

from datetime import time
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator

from contract.names import MAX_DIGITS, NAME_PATTERN, REGION_PATTERN, has_few_digits


def _as_text(value: object) -> object:
    # YAML reads yes/no as booleans and 12 as a number; in `when:` both mean the words.
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if isinstance(value, int) else value


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_country(value: object) -> object:
    return "NO" if value is False else value  # YAML reads Norway as a boolean


def _as_time(value: object) -> object:
    # YAML reads 21:00 without quotes as a number to the base 60.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
        return time(value // 60, value % 60)
    return value


def _with_few_digits(name: str) -> str:
    if not has_few_digits(name):
        raise ValueError(
            f"a name may have at most {MAX_DIGITS} digits: one with more could be a telephone number, and may not "
            "leave a region"
        )
    return name


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=600)]
# Of an item of knowledge: it stays in the region, and may be the number of an article.
ItemName = Annotated[str, StringConstraints(pattern=f"^{NAME_PATTERN}$", max_length=60)]
Name = Annotated[ItemName, AfterValidator(_with_few_digits)]
RegionName = Annotated[
    str, StringConstraints(pattern=f"^{REGION_PATTERN}$", max_length=32), AfterValidator(_with_few_digits)
]
Value = Annotated[str, BeforeValidator(_as_text)]
Texts = Annotated[list[Text], BeforeValidator(_as_list)]
Names = Annotated[list[Name], BeforeValidator(_as_list)]
TelephoneNumber = Annotated[str, StringConstraints(pattern=r"^\+?[0-9]{2,15}$")]
Destination = Annotated[str, StringConstraints(pattern=r"^(sips?:[^\s@]+@[^\s@]+|\+?[0-9]{2,15})$")]
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+(/\S*)?$")]
Probability = Annotated[float, Field(ge=0, le=1)]
RetentionDays = Annotated[int, Field(ge=0, le=36_500)]
DeadlineDays = Annotated[int, Field(ge=1, le=365)]
DeadlineHours = Annotated[int, Field(ge=1, le=24 * 90)]
Country = Annotated[str, BeforeValidator(_as_country), StringConstraints(pattern=r"^[A-Z]{2}$")]
TimeOfDay = Annotated[time, BeforeValidator(_as_time)]


class Part(BaseModel):
    """A mapping in a document; keys that are not listed are mistakes."""

    model_config = ConfigDict(extra="forbid", strict=False)


class MetadataPart(Part):
    name: Name
    tenant: Name | None = None


class ChoicePart(Part):
    value: Value
    words: Texts = []


class SlotPart(Part):
    kind: Literal["digits", "yes_no", "choice", "amount", "text", "item"]
    digits: Annotated[int, Field(ge=1, le=20)] | None = None
    choices: list[ChoicePart] = []
    source: Name | None = None

    @model_validator(mode="after")
    def _is_whole(self) -> "SlotPart":
        if self.kind == "choice" and len(self.choices) < 2:
            raise ValueError("a choice slot needs at least two `choices`")
        if self.kind == "item" and self.source is None:
            raise ValueError("an item slot needs `source`, the knowledge it is looked up in")
        if self.kind != "digits" and self.digits is not None:
            raise ValueError("only a digits slot has `digits`")
        return self


class AskPart(Part):
    slot: Name
    prompt: Text
    reprompts: Texts = []


class ConfirmPart(Part):
    prompt: Text
    retry: Names


class ToolStepPart(Part):
    name: Name
    arguments: dict[Name, Value] = {}
    filler: Text
    failed: Text
    hand_over: bool = False


class HandOverPart(Part):
    reason: Name
    text: Text


class StepPart(Part):
    ask: AskPart | None = None
    confirm: ConfirmPart | None = None
    tool: ToolStepPart | None = None
    say: Text | None = None
    hand_over: HandOverPart | None = None
    finish: Text | None = None
    hang_up: bool = False
    when: dict[Name, Value] = {}

    @model_validator(mode="after")
    def _has_one_act(self) -> "StepPart":
        acts = [self.ask, self.confirm, self.tool, self.say, self.hand_over, self.finish]
        if sum(act is not None for act in acts) != 1:
            raise ValueError("a step has exactly one of ask, confirm, tool, say, hand_over, finish")
        if self.hang_up and self.finish is None:
            raise ValueError("`hang_up` belongs to `finish`")
        return self


class FlowSpec(Part):
    title: Text
    slots: dict[Name, SlotPart] = {}
    steps: Annotated[list[StepPart], Field(min_length=1)]
    cancelled: Text = "All right, let's leave that."


class AnswerPart(Part):
    say: Text
    when: dict[Name, Value] = {}


class IntentPart(Part):
    examples: Annotated[list[Text], Field(min_length=1)]
    title: Text | None = None
    answer: Text | list[AnswerPart] | None = None
    item: ItemName | None = None
    knowledge: Name | None = None
    flow: Name | None = None
    escalate: Name | None = None
    goodbye: bool = False
    reply: Literal["speak", "generate"] = "speak"

    @model_validator(mode="after")
    def _does_one_thing(self) -> "IntentPart":
        acts = [self.answer is not None, self.knowledge is not None, self.flow is not None]
        acts += [self.escalate is not None, self.goodbye]
        if sum(acts) != 1:
            raise ValueError("an intent has exactly one of answer, knowledge, flow, escalate, goodbye")
        return self


class SourcePart(Part):
    name: Name
    # Without one the items come from the tenant's knowledge at the hub.
    file: Text | None = None
    mention: Text | None = None


class ConsentPart(Part):
    prompt: Text
    again: Text
    accepted: Text
    declined: Text


class TransferFailedPart(Part):
    busy: Text
    no_answer: Text
    unreachable: Text


class PhrasesPart(Part):
    not_known: Texts
    not_understood: Texts
    confirm: Text = "Do you mean {question}?"
    which_item: Text = "Which one do you mean?"
    anything_else: Text = "Is there anything else I can help you with?"
    escalating: Text = "One moment, I'll connect you with a colleague."
    transfer_failed: TransferFailedPart
    no_input: Texts
    silence_goodbye: Text
    goodbye: Text
    resume: Text = "Sorry, we were cut off for a moment."
    ring_back: Text = "Welcome back. I'm sorry that we were cut off."
    ring_back_topic: Text = "You were asking about {title}."
    back_to_flow: Text = "Now, back to your {title}."
    filler: Texts = ["One moment, please."]
    more_digits: Text = "And the rest, please?"


class AgentSpec(Part):
    language: Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[A-Z]{2})?$")] = "en"
    voice: str = ""
    greeting: Text
    numbers: list[TelephoneNumber] = []
    human: Destination
    consent: ConsentPart | None = None
    knowledge: list[SourcePart] = []
    intents: dict[Name, IntentPart] = {}
    phrases: PhrasesPart
    policy: Name | None = None


class ArgumentPart(Part):
    kind: Literal["digits", "yes_no", "choice", "amount", "text", "item"] = "text"
    digits: Annotated[int, Field(ge=1, le=20)] | None = None


class ToolPart(Part):
    url: HttpUrl | None = None
    arguments: dict[Name, ArgumentPart] = {}
    returns: Names = []
    timeout_s: Annotated[float, Field(gt=0, le=15)] = 3.0
    response_limit_bytes: Annotated[int, Field(ge=64, le=1_048_576)] = 16_384
    secret_file: str | None = None


class RecordingPart(Part):
    """What happens before a call is recorded."""

    consent: Literal["none", "notice", "opt_in"]


class RetentionPart(Part):
    """For how many days each class of data is kept."""

    transcripts: RetentionDays | None = None
    recordings: RetentionDays | None = None
    call_metadata: RetentionDays | None = None
    consents: RetentionDays | None = None
    access_logs: RetentionDays | None = None


class HoursPart(Part):
    """From when until when, in the called person's time of day."""

    from_: Annotated[TimeOfDay, Field(alias="from")]
    until: TimeOfDay

    @model_validator(mode="after")
    def _is_ordered(self) -> "HoursPart":
        if self.from_ >= self.until:
            raise ValueError("`from` must be before `until`")
        return self


class OutboundPart(Part):
    """How people are called. Absent: the tenant calls nobody."""

    consent: Literal["none", "express", "express_written"]
    hours: HoursPart | None = None


class ResidencyPart(Part):
    """`backup`: the backup of a region may take its calls, where the laws of both allow it."""

    may_leave: Names = ["aggregates"]
    backup: bool = False


class RightsPart(Part):
    """Within how many days a person's request is answered."""

    access: DeadlineDays | None = None
    erasure: DeadlineDays | None = None
    rectification: DeadlineDays | None = None
    objection: DeadlineDays | None = None
    withdrawal: DeadlineDays | None = None
    grievance: DeadlineDays | None = None


class BreachPart(Part):
    """Within how many hours a breach is told."""

    authority: DeadlineHours | None = None
    subjects: DeadlineHours | None = None


class AggregatesPart(Part):
    minimum_group: Annotated[int, Field(ge=1, le=1000)]


class GovernancePart(Part):
    """Where a tenant's calls are taken, under which laws, and what is kept of them. The packs of
    controlplane/jurisdictions are held against it; what is absent is not said."""

    regions: list[RegionName] = []
    jurisdictions: Names = []
    data_classes: Names = []
    recording: RecordingPart | None = None
    retention: RetentionPart = RetentionPart()
    outbound: OutboundPart | None = None
    residency: ResidencyPart = ResidencyPart()
    rights: RightsPart = RightsPart()
    breach: BreachPart = BreachPart()
    aggregates: AggregatesPart | None = None


class TenantSpec(Part):
    title: Text
    timezone: str = "UTC"
    tools: dict[Name, ToolPart] = {}
    governance: GovernancePart | None = None


class RegionSpec(Part):
    """A region and what its laws allow. `country` is ISO 3166 alpha-2; `backup` is the region that may take its calls
    where the packs of both and the tenant allow it. Without `allowed_data_classes` every class is allowed."""

    title: Text
    country: Country
    timezone: str = "UTC"
    jurisdictions: Names = []
    allowed_data_classes: Names | None = None
    backup: RegionName | None = None


class BandsPart(Part):
    answer: Probability = 0.6
    confirm: Probability = 0.4

    @model_validator(mode="after")
    def _is_ordered(self) -> "BandsPart":
        if self.confirm > self.answer:
            raise ValueError("`confirm` must not be above `answer`")
        return self


class PolicySpec(Part):
    bands: BandsPart = BandsPart()
    misunderstandings: Annotated[int, Field(ge=1, le=5)] = 2
    sensitive: dict[Name, Texts] = {}
    generation_budget_s: Annotated[float, Field(gt=0, le=5)] = 0.6
    # How long a caller who was cut off may ring back to go on; 0: never.
    ring_back_s: Annotated[float, Field(ge=0, le=3600)] = 600


class Document(Part):
    """What all kinds share."""

    apiVersion: Literal["borough/v1"]  # noqa: N815 (the key as operators know it from Kubernetes)
    metadata: MetadataPart


class AgentDocument(Document):
    kind: Literal["Agent"]
    spec: AgentSpec


class FlowDocument(Document):
    kind: Literal["Flow"]
    spec: FlowSpec


class TenantDocument(Document):
    kind: Literal["Tenant"]
    spec: TenantSpec


class PolicyDocument(Document):
    kind: Literal["Policy"]
    spec: PolicySpec


class RegionMetadataPart(Part):
    name: RegionName


class RegionDocument(Part):
    apiVersion: Literal["borough/v1"]  # noqa: N815 (the key as operators know it from Kubernetes)
    kind: Literal["Region"]
    metadata: RegionMetadataPart
    spec: RegionSpec


AnyDocument = AgentDocument | FlowDocument | TenantDocument | PolicyDocument | RegionDocument

DOCUMENTS: dict[
    str,
    type[AgentDocument] | type[FlowDocument] | type[TenantDocument] | type[PolicyDocument] | type[RegionDocument],
] = {
    "Agent": AgentDocument,
    "Flow": FlowDocument,
    "Tenant": TenantDocument,
    "Policy": PolicyDocument,
    "Region": RegionDocument,
}
