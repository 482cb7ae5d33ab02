"""What a rule of a jurisdiction is, and which of two is stricter. Pure; knows no files and no documents."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time
from enum import StrEnum


class RuleKind(StrEnum):
    """What a rule is about."""

    RECORDING_CONSENT = "recording_consent"
    OUTBOUND_CONSENT = "outbound_consent"
    CALLING_HOURS = "calling_hours"
    RETENTION_MAX_DAYS = "retention_max_days"
    RETENTION_MIN_DAYS = "retention_min_days"
    MAY_LEAVE = "may_leave"
    REGION_PAIR = "region_pair"
    CONFINED_TO = "confined_to"
    DEADLINE_DAYS = "deadline_days"
    BREACH_HOURS = "breach_hours"
    MINIMUM_GROUP = "minimum_group"


class Force(StrEnum):
    """Where a rule's value stands: in the law itself, or chosen because the law names none."""

    LAW = "law"
    PRACTICE = "practice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """From when until when somebody may be called, in their own time of day."""

    first: time
    last: time

    def __str__(self) -> str:
        return f"{self.first:%H:%M}-{self.last:%H:%M}"


Value = str | int | frozenset[str] | Hours

# Loosest first.
RECORDING_CONSENT = ("none", "notice", "opt_in")
OUTBOUND_CONSENT = ("none", "express", "express_written")
REGION_PAIR = ("any", "adequate", "same_jurisdiction", "forbidden")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. `of` is the data class, right or addressee it is about, empty where the kind needs none."""

    id: str
    kind: RuleKind
    of: str
    value: Value
    force: Force
    article: str
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """The rules of one law. `countries` is where it holds, `adequate` where data may follow it (ISO 3166 alpha-2)."""

    name: str
    title: str
    as_of: date
    applies_from: date
    countries: frozenset[str]
    adequate: frozenset[str]
    rules: tuple[Rule, ...]


def stricter(one: Rule, other: Rule) -> Rule:
    """The rule whose value allows less; of hours and lists that only overlap, a rule with what both allow."""
    assert (one.kind, one.of) == (other.kind, other.of), "rules about different things"
    value = _STRICTER[one.kind](one.value, other.value)
    if value == one.value:
        # Equal values: what the law says outweighs what is only good practice.
        return other if value == other.value and other.force is Force.LAW else one
    if value == other.value:
        return other
    force = Force.LAW if Force.LAW in (one.force, other.force) else Force.PRACTICE
    return Rule(
        id=f"{one.id}+{other.id}",
        kind=one.kind,
        of=one.of,
        value=value,
        force=force,
        article=f"{one.article}; {other.article}",
        because=f"{one.because} {other.because}",
    )


def _ordered(order: tuple[str, ...]) -> Callable[[Value, Value], Value]:
    def pick(one: Value, other: Value) -> Value:
        assert isinstance(one, str)
        assert isinstance(other, str)
        return max(one, other, key=order.index)

    return pick


def _smaller(one: Value, other: Value) -> Value:
    assert isinstance(one, int)
    assert isinstance(other, int)
    return min(one, other)


def _larger(one: Value, other: Value) -> Value:
    assert isinstance(one, int)
    assert isinstance(other, int)
    return max(one, other)


def _both(one: Value, other: Value) -> Value:
    assert isinstance(one, frozenset)
    assert isinstance(other, frozenset)
    return one & other


def _overlap(one: Value, other: Value) -> Value:
    assert isinstance(one, Hours)
    assert isinstance(other, Hours)
    return Hours(first=max(one.first, other.first), last=min(one.last, other.last))


_STRICTER: Mapping[RuleKind, Callable[[Value, Value], Value]] = {
    RuleKind.RECORDING_CONSENT: _ordered(RECORDING_CONSENT),
    RuleKind.OUTBOUND_CONSENT: _ordered(OUTBOUND_CONSENT),
    RuleKind.CALLING_HOURS: _overlap,
    RuleKind.RETENTION_MAX_DAYS: _smaller,
    RuleKind.RETENTION_MIN_DAYS: _larger,
    RuleKind.MAY_LEAVE: _both,
    RuleKind.REGION_PAIR: _ordered(REGION_PAIR),
    RuleKind.CONFINED_TO: _both,
    RuleKind.DEADLINE_DAYS: _smaller,
    RuleKind.BREACH_HOURS: _smaller,
    RuleKind.MINIMUM_GROUP: _larger,
}
