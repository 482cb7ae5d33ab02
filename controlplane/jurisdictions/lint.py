"""Where a tenant's configuration is looser than the laws it lives under. Pure: facts and packs in, findings out.

A tenant is judged by the packs it names and by those of every region that serves it. What law forbids is an error and
refuses an apply; what is only good practice, or left unsaid, is a warning.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from controlplane.jurisdictions.errors import UnknownPackError
from controlplane.jurisdictions.facts import GovernanceFacts
from controlplane.jurisdictions.pairs import may_back
from controlplane.jurisdictions.rules import (
    OUTBOUND_CONSENT,
    RECORDING_CONSENT,
    Force,
    Hours,
    Pack,
    Rule,
    RuleKind,
    Value,
)
from controlplane.jurisdictions.strictest import Conflict, strictest

GOVERNANCE = "spec.governance"


class Severity(StrEnum):
    """Whether a finding refuses an apply."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place where a tenant is looser than a rule. `suggestion` is a value that satisfies all of its packs."""

    severity: Severity
    tenant: str
    key: str
    rule: str
    article: str
    message: str
    suggestion: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Book:
    """What a check may look up beside its rule."""

    packs: Mapping[str, Pack]
    is_strictest: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Problem:
    """`is_unsaid`: the tenant says nothing where the rule wants a value; never worse than a warning."""

    key: str
    message: str
    is_unsaid: bool = False


def lint(facts: GovernanceFacts, packs: Mapping[str, Pack], *, is_strictest: bool = False) -> tuple[Finding, ...]:
    """All findings, errors first; with `is_strictest` by the strictest rule of all packs. Raises UnknownPackError."""
    chosen = tuple(packs.values()) if is_strictest else packs_of(facts, packs)
    merged = strictest(chosen)
    rules = merged.rules if is_strictest else tuple(rule for pack in chosen for rule in pack.rules)
    findings = [_contradiction(facts, conflict) for conflict in merged.conflicts]
    book = _Book(packs=packs, is_strictest=is_strictest)
    for rule in rules:
        strict = merged.rule(rule.kind, rule.of) or rule
        problems = _CHECKS[rule.kind](rule, facts, book)
        findings.extend(_finding(facts, rule, problem, suggestion=show(strict.value)) for problem in problems)
    return tuple(sorted(findings, key=lambda finding: (finding.severity, finding.key, finding.rule)))


def packs_of(facts: GovernanceFacts, packs: Mapping[str, Pack]) -> tuple[Pack, ...]:
    """The packs that a tenant is judged by: its own and those of its regions. Raises UnknownPackError."""
    names = {*facts.jurisdictions, *(name for region in facts.regions for name in region.jurisdictions)}
    unknown = sorted(names - packs.keys())
    if unknown:
        raise UnknownPackError(f"{facts.tenant}: there is no jurisdiction pack {unknown[0]!r}")
    return tuple(packs[name] for name in sorted(names))


def show(value: Value) -> str:
    """A rule's value as an operator writes it."""
    match value:
        case Hours():
            return f'{{from: "{value.first:%H:%M}", until: "{value.last:%H:%M}"}}'
        case frozenset():
            return f"[{', '.join(sorted(value))}]"
        case _:
            return str(value)


def _finding(facts: GovernanceFacts, rule: Rule, problem: _Problem, *, suggestion: str) -> Finding:
    is_error = rule.force is Force.LAW and not problem.is_unsaid
    return Finding(
        severity=Severity.ERROR if is_error else Severity.WARNING,
        tenant=facts.tenant,
        key=problem.key,
        rule=rule.id,
        article=rule.article,
        message=f"{problem.message} {rule.because}",
        suggestion=suggestion,
    )


def _contradiction(facts: GovernanceFacts, conflict: Conflict) -> Finding:
    minimum, maximum = conflict.minimum, conflict.maximum
    return Finding(
        severity=Severity.WARNING,
        tenant=facts.tenant,
        key=f"{GOVERNANCE}.retention.{minimum.of}",
        rule=f"{minimum.id}+{maximum.id}",
        article=f"{minimum.article}; {maximum.article}",
        message=f"One rule keeps {minimum.of} for at least {minimum.value} days, another for at most {maximum.value}.",
        suggestion="Split the tenant by region, or let counsel decide which rule yields.",
    )


# --- one check for each kind of rule ------------------------------------------------------------------------------
_Check = Callable[[Rule, GovernanceFacts, _Book], Iterator[_Problem]]


def _recording_consent(rule: Rule, facts: GovernanceFacts, _book: _Book) -> Iterator[_Problem]:
    yield from _order_problem(
        f"{GOVERNANCE}.recording.consent", facts.recording_consent, str(rule.value), RECORDING_CONSENT
    )


def _outbound_consent(rule: Rule, facts: GovernanceFacts, _book: _Book) -> Iterator[_Problem]:
    if facts.makes_calls:
        yield from _order_problem(
            f"{GOVERNANCE}.outbound.consent", facts.outbound_consent, str(rule.value), OUTBOUND_CONSENT
        )


def _order_problem(key: str, said: str | None, wanted: str, order: tuple[str, ...]) -> Iterator[_Problem]:
    if said is None:
        yield _Problem(key=key, message=f"It is not said; at least {wanted} is asked for.", is_unsaid=True)
    elif order.index(said) < order.index(wanted):
        yield _Problem(key=key, message=f"It is {said}; at least {wanted} is asked for.")


def _calling_hours(rule: Rule, facts: GovernanceFacts, _book: _Book) -> Iterator[_Problem]:
    key, allowed, hours = f"{GOVERNANCE}.outbound.hours", rule.value, facts.calling_hours
    assert isinstance(allowed, Hours)
    if not facts.makes_calls:
        return
    if hours is None:
        yield _Problem(key=key, message=f"People may be called at {allowed} only, and no hours are said.")
    elif hours.first < allowed.first or hours.last > allowed.last:
        yield _Problem(key=key, message=f"People are called at {hours}; {allowed} is allowed.")


def _retention_max(rule: Rule, facts: GovernanceFacts, _book: _Book) -> Iterator[_Problem]:
    key = f"{GOVERNANCE}.retention.{rule.of}"
    yield from _at_most(key, facts.retention_days.get(rule.of), rule, "days")


def _retention_min(rule: Rule, facts: GovernanceFacts, _book: _Book) -> Iterator[_Problem]:
    key = f"{GOVERNANCE}.retention.{rule.of}"
    yield from _at_least(key, facts.retention_days.get(rule.of), rule, "days")


def _deadline(rule: Rule, facts: GovernanceFacts, _book: _Book) -> Iterator[_Problem]:
    yield from _at_most(f"{GOVERNANCE}.rights.{rule.of}", facts.deadline_days.get(rule.of), rule, "days")


def _breach(rule: Rule, facts: GovernanceFacts, _book: _Book) -> Iterator[_Problem]:
    yield from _at_most(f"{GOVERNANCE}.breach.{rule.of}", facts.breach_hours.get(rule.of), rule, "hours")


def _minimum_group(rule: Rule, facts: GovernanceFacts, _book: _Book) -> Iterator[_Problem]:
    yield from _at_least(f"{GOVERNANCE}.aggregates.minimum_group", facts.minimum_group, rule, "people")


def _at_most(key: str, said: int | None, rule: Rule, unit: str) -> Iterator[_Problem]:
    assert isinstance(rule.value, int)
    if said is None:
        yield _Problem(key=key, message=f"It is not said; at most {rule.value} {unit} are allowed.", is_unsaid=True)
    elif said > rule.value:
        yield _Problem(key=key, message=f"It is {said} {unit}; at most {rule.value} are allowed.")


def _at_least(key: str, said: int | None, rule: Rule, unit: str) -> Iterator[_Problem]:
    assert isinstance(rule.value, int)
    if said is None:
        yield _Problem(key=key, message=f"It is not said; at least {rule.value} {unit} are asked for.", is_unsaid=True)
    elif said < rule.value:
        yield _Problem(key=key, message=f"It is {said} {unit}; at least {rule.value} are asked for.")


def _may_leave(rule: Rule, facts: GovernanceFacts, _book: _Book) -> Iterator[_Problem]:
    assert isinstance(rule.value, frozenset)
    excess = sorted(facts.may_leave - rule.value)
    if excess:
        yield _Problem(key=f"{GOVERNANCE}.residency.may_leave", message=f"{', '.join(excess)} may not leave a region.")


def _region_pair(rule: Rule, facts: GovernanceFacts, book: _Book) -> Iterator[_Problem]:
    pack = book.packs[rule.id.partition(".")[0]]
    for region in facts.regions:
        backup = facts.region(region.backup) if region.backup is not None else None
        # A pack protects what is gathered where it holds, and all of a tenant that names it.
        is_under = book.is_strictest or pack.name in (*facts.jurisdictions, *region.jurisdictions)
        if backup is not None and is_under and not may_back(rule, region, backup, pack):
            yield _Problem(
                key=f"{GOVERNANCE}.jurisdictions",
                message=f"{region.name} ({region.country}) is backed by {backup.name} ({backup.country}), "
                f"and the pair must be: {rule.value}.",
            )


def _confined_to(rule: Rule, facts: GovernanceFacts, _book: _Book) -> Iterator[_Problem]:
    assert isinstance(rule.value, frozenset)
    if rule.of not in facts.data_classes:
        return
    for region in facts.regions:
        if region.country not in rule.value:
            yield _Problem(
                key=f"{GOVERNANCE}.data_classes",
                message=f"Data of class {rule.of} may not be in region {region.name} ({region.country}).",
            )


_CHECKS: Mapping[RuleKind, _Check] = {
    RuleKind.RECORDING_CONSENT: _recording_consent,
    RuleKind.OUTBOUND_CONSENT: _outbound_consent,
    RuleKind.CALLING_HOURS: _calling_hours,
    RuleKind.RETENTION_MAX_DAYS: _retention_max,
    RuleKind.RETENTION_MIN_DAYS: _retention_min,
    RuleKind.MAY_LEAVE: _may_leave,
    RuleKind.REGION_PAIR: _region_pair,
    RuleKind.CONFINED_TO: _confined_to,
    RuleKind.DEADLINE_DAYS: _deadline,
    RuleKind.BREACH_HOURS: _breach,
    RuleKind.MINIMUM_GROUP: _minimum_group,
}
