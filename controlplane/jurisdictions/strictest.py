"""The strictest-everywhere alternative: for each thing that any pack rules, the rule that allows least."""

from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.jurisdictions.rules import Pack, Rule, RuleKind, stricter


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """Two rules that no configuration can keep both of: data is to be kept longer than it may be."""

    minimum: Rule
    maximum: Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class StrictestRules:
    """One rule for each kind and subject, in the order of their ids; and what contradicts itself."""

    rules: tuple[Rule, ...]
    conflicts: tuple[Conflict, ...]

    def rule(self, kind: RuleKind, of: str = "") -> Rule | None:
        """The rule about this, if any pack has one."""
        return next((rule for rule in self.rules if (rule.kind, rule.of) == (kind, of)), None)


def strictest(packs: Iterable[Pack]) -> StrictestRules:
    """Merge packs rule by rule; the order of the packs does not change any value."""
    merged: dict[tuple[RuleKind, str], Rule] = {}
    for pack in sorted(packs, key=lambda pack: pack.name):
        for rule in pack.rules:
            about = (rule.kind, rule.of)
            merged[about] = stricter(merged[about], rule) if about in merged else rule
    conflicts = []
    for (kind, of), maximum in merged.items():
        minimum = merged.get((RuleKind.RETENTION_MIN_DAYS, of)) if kind is RuleKind.RETENTION_MAX_DAYS else None
        if minimum is not None and _days(minimum) > _days(maximum):
            conflicts.append(Conflict(minimum=minimum, maximum=maximum))
    rules = sorted(merged.values(), key=lambda rule: (rule.kind, rule.of))
    return StrictestRules(rules=tuple(rules), conflicts=tuple(conflicts))


def _days(rule: Rule) -> int:
    assert isinstance(rule.value, int)
    return rule.value
