"""Reads the packs that come with the release (packs/*.yaml). pydantic stays in here."""

from collections.abc import Mapping
from datetime import date, time
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from controlplane.jurisdictions.errors import PackInvalidError
from controlplane.jurisdictions.rules import Force, Hours, Pack, Rule, RuleKind, Value

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
RuleId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(\.[a-z][a-z0-9_]*){2,3}$")]
Country = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
Days = Annotated[int, Field(ge=1, le=36_500)]
DataClass = Literal["transcripts", "recordings", "call_metadata", "consents", "access_logs"]
Right = Literal["access", "erasure", "rectification", "objection", "withdrawal", "grievance"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _RulePart(_Part):
    id: RuleId
    force: Force
    article: Text
    because: Text


class _RecordingConsent(_RulePart):
    kind: Literal["recording_consent"]
    value: Literal["none", "notice", "opt_in"]


class _OutboundConsent(_RulePart):
    kind: Literal["outbound_consent"]
    value: Literal["none", "express", "express_written"]


class _HoursPart(_Part):
    first: Annotated[time, Field(alias="from")]
    last: Annotated[time, Field(alias="until")]

    @model_validator(mode="after")
    def _is_ordered(self) -> "_HoursPart":
        if self.first >= self.last:
            raise ValueError("`from` must be before `until`")
        return self


class _CallingHours(_RulePart):
    kind: Literal["calling_hours"]
    value: _HoursPart


class _Retention(_RulePart):
    kind: Literal["retention_max_days", "retention_min_days"]
    of: DataClass
    value: Days


class _MayLeave(_RulePart):
    kind: Literal["may_leave"]
    value: list[Text]


class _RegionPair(_RulePart):
    kind: Literal["region_pair"]
    value: Literal["any", "adequate", "same_jurisdiction", "forbidden"]


class _ConfinedTo(_RulePart):
    kind: Literal["confined_to"]
    of: Text
    value: list[Country]


class _Deadline(_RulePart):
    kind: Literal["deadline_days"]
    of: Right
    value: Days


class _Breach(_RulePart):
    kind: Literal["breach_hours"]
    of: Literal["authority", "subjects"]
    value: Annotated[int, Field(ge=1, le=24 * 90)]


class _MinimumGroup(_RulePart):
    kind: Literal["minimum_group"]
    value: Annotated[int, Field(ge=1, le=1000)]


_AnyRule = (
    _RecordingConsent
    | _OutboundConsent
    | _CallingHours
    | _Retention
    | _MayLeave
    | _RegionPair
    | _ConfinedTo
    | _Deadline
    | _Breach
    | _MinimumGroup
)


class _PackFile(_Part):
    pack: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*$")]
    title: Text
    as_of: date
    applies_from: date
    countries: list[Country]
    adequate: list[Country]
    rules: list[Annotated[_AnyRule, Field(discriminator="kind")]]

    @model_validator(mode="after")
    def _ids_are_its_own(self) -> "_PackFile":
        ids = [rule.id for rule in self.rules]
        if len(set(ids)) != len(ids):
            raise ValueError("two rules have the same id")
        if any(not rule_id.startswith(f"{self.pack}.") for rule_id in ids):
            raise ValueError(f"the ids of its rules begin with {self.pack!r}")
        return self


def load_packs(folder: Traversable | None = None) -> Mapping[str, Pack]:
    """All packs by name; without `folder` those of this release. Raises PackInvalidError."""
    folder = folder if folder is not None else resources.files("controlplane.jurisdictions") / "packs"
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    packs = {}
    for entry in files:
        pack = _read(entry.name, entry.read_text(encoding="utf-8"))
        packs[pack.name] = pack
    return packs


def _read(name: str, text: str) -> Pack:
    try:
        part = _PackFile.model_validate(yaml.safe_load(text))
    except (ValidationError, yaml.YAMLError) as error:
        raise PackInvalidError(f"{name}: {_first_problem(error)}") from error
    if name != f"{part.pack}.yaml":
        raise PackInvalidError(f"{name}: the pack in it is called {part.pack!r}")
    return Pack(
        name=part.pack,
        title=part.title,
        as_of=part.as_of,
        applies_from=part.applies_from,
        countries=frozenset(part.countries),
        adequate=frozenset(part.adequate),
        rules=tuple(_rule(rule) for rule in part.rules),
    )


def _rule(part: _AnyRule) -> Rule:
    of = part.of if isinstance(part, _Retention | _ConfinedTo | _Deadline | _Breach) else ""
    return Rule(
        id=part.id,
        kind=RuleKind(part.kind),
        of=of,
        value=_value(part),
        force=part.force,
        article=part.article,
        because=part.because,
    )


def _value(part: _AnyRule) -> Value:
    match part:
        case _CallingHours():
            return Hours(first=part.value.first, last=part.value.last)
        case _MayLeave() | _ConfinedTo():
            return frozenset(part.value)
        case _:
            return part.value


def _first_problem(error: ValidationError | yaml.YAMLError) -> str:
    if isinstance(error, yaml.YAMLError):
        return str(error)
    problem = error.errors()[0]
    return f"{'.'.join(str(step) for step in problem['loc'])}: {problem['msg']}"
