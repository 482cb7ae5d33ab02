"""Packs are whole, the strictest merge never allows more than any pack, and the linter finds what is looser."""

from dataclasses import replace
from datetime import time
from itertools import permutations
from pathlib import Path

import pytest

from controlplane.jurisdictions import (
    Finding,
    GovernanceFacts,
    Pack,
    RegionFacts,
    RuleKind,
    Severity,
    lint,
    load_packs,
    strictest,
)
from controlplane.jurisdictions.errors import PackInvalidError, UnknownPackError
from controlplane.jurisdictions.lint import show
from controlplane.jurisdictions.rules import Hours, Rule, stricter

PACKS = load_packs()
GERMANY = RegionFacts(name="eu-central", country="DE", jurisdictions=("gdpr",))
INDIA = RegionFacts(name="in-south", country="IN", jurisdictions=("dpdp",))
HEAD = "title: t\nas_of: 2026-01-01\napplies_from: 2026-01-01\ncountries: []\nadequate: []\n"
RULE = "id: x.recording.consent, kind: recording_consent, force: law, article: a, because: b"
STRICT = GovernanceFacts(
    tenant="acme",
    jurisdictions=("gdpr",),
    regions=(GERMANY,),
    recording_consent="opt_in",
    retention_days={"transcripts": 30, "recordings": 7, "call_metadata": 365},
    deadline_days=dict.fromkeys(("access", "erasure", "rectification", "objection"), 10) | {"withdrawal": 1},
    breach_hours={"authority": 48, "subjects": 48},
    minimum_group=10,
)

CALLS = replace(
    STRICT,
    jurisdictions=("gdpr", "tcpa"),
    retention_days={**STRICT.retention_days, "consents": 2000},
    makes_calls=True,
    outbound_consent="express_written",
    calling_hours=Hours(first=time(8), last=time(20)),
)


def kept(**days: int) -> GovernanceFacts:
    return replace(STRICT, retention_days={**STRICT.retention_days, **days})


def rules_found(findings: tuple[Finding, ...], severity: Severity | None = None) -> set[str]:
    return {finding.rule for finding in findings if severity in (None, finding.severity)}


def test_every_pack_has_rules_with_an_article_each() -> None:
    assert set(PACKS) == {"dpdp", "gdpr", "tcpa"}
    for pack in PACKS.values():
        assert pack.rules
        assert all(rule.article and rule.because and rule.id.startswith(f"{pack.name}.") for rule in pack.rules)


def test_every_kind_of_rule_is_in_some_pack() -> None:
    assert {rule.kind for pack in PACKS.values() for rule in pack.rules} == set(RuleKind)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("pack: x", "title"),
        (
            f"pack: other\n{HEAD}rules: []",
            "x.yaml",
        ),
        (
            f"pack: x\n{HEAD}rules: [{{{RULE}, value: maybe}}]",
            "rules.0.recording_consent.value",
        ),
        ("{", "x.yaml"),
    ],
)
def test_a_broken_pack_is_refused_with_its_file_and_key(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / "x.yaml").write_text(content, encoding="utf-8")
    with pytest.raises(PackInvalidError, match=named):
        load_packs(tmp_path)


def test_a_strict_tenant_has_no_findings() -> None:
    assert lint(STRICT, PACKS) == ()


@pytest.mark.parametrize(
    ("facts", "rule", "severity"),
    [
        (replace(STRICT, recording_consent="notice"), "gdpr.recording.consent", Severity.ERROR),
        (replace(STRICT, recording_consent=None), "gdpr.recording.consent", Severity.WARNING),
        (kept(transcripts=900), "gdpr.retention.transcripts", Severity.WARNING),
        (replace(STRICT, may_leave=frozenset({"transcripts"})), "gdpr.residency.may_leave", Severity.ERROR),
        (replace(STRICT, deadline_days={**STRICT.deadline_days, "erasure": 31}), "gdpr.rights.erasure", Severity.ERROR),
        (replace(STRICT, breach_hours={"authority": 73, "subjects": 1}), "gdpr.breach.authority", Severity.ERROR),
        (replace(STRICT, minimum_group=3), "gdpr.aggregates.minimum_group", Severity.WARNING),
        (
            replace(STRICT, regions=(replace(GERMANY, backup="in-south"),), backups=(INDIA,)),
            "gdpr.residency.region_pair",
            Severity.ERROR,
        ),
        (replace(CALLS, outbound_consent="express"), "tcpa.outbound.consent", Severity.ERROR),
        (replace(CALLS, calling_hours=Hours(first=time(8), last=time(22))), "tcpa.outbound.hours", Severity.ERROR),
        (replace(CALLS, retention_days=kept(consents=365).retention_days), "tcpa.retention.consents", Severity.ERROR),
    ],
)
def test_a_looser_tenant_is_found_by_rule_key_and_article(
    facts: GovernanceFacts, rule: str, severity: Severity
) -> None:
    findings = lint(facts, PACKS)
    assert rules_found(findings) == {rule}
    (finding,) = findings
    assert finding.severity is severity
    assert finding.key.startswith("spec.governance.")
    assert finding.article
    assert finding.message
    assert finding.suggestion


def test_a_tenant_is_judged_by_its_regions_packs_too() -> None:
    facts = replace(STRICT, jurisdictions=(), regions=(INDIA,), data_classes=frozenset({"payment"}))
    assert "dpdp.retention.access_logs.minimum" in rules_found(lint(facts, PACKS))
    assert not any(rule.startswith("gdpr") for rule in rules_found(lint(facts, PACKS)))


def test_payment_data_outside_india_is_an_error_of_an_indian_tenant() -> None:
    facts = replace(STRICT, jurisdictions=("dpdp",), regions=(INDIA, GERMANY), data_classes=frozenset({"payment"}))
    found = [finding for finding in lint(facts, PACKS) if finding.rule == "dpdp.residency.payment"]
    assert [finding.severity for finding in found] == [Severity.ERROR]
    assert "eu-central" in found[0].message


@pytest.mark.parametrize(("country", "problems"), [("FR", 0), ("JP", 0), ("US", 1), ("IN", 1)])
def test_a_european_region_is_backed_in_the_eea_or_an_adequate_country(country: str, problems: int) -> None:
    backup = RegionFacts(name="other", country=country)
    facts = replace(STRICT, regions=(replace(GERMANY, backup="other"),), backups=(backup,))
    assert len(lint(facts, PACKS)) == problems


def test_a_tenant_without_calls_of_its_own_has_no_calling_hours_to_keep() -> None:
    assert lint(replace(CALLS, makes_calls=False, outbound_consent=None, calling_hours=None), PACKS) == ()


def test_an_unknown_pack_is_named() -> None:
    with pytest.raises(UnknownPackError, match="ccpa"):
        lint(replace(STRICT, jurisdictions=("ccpa",)), PACKS)


def test_the_strictest_rules_are_at_least_as_strict_as_every_pack() -> None:
    merged = strictest(PACKS.values())
    for rule in (rule for pack in PACKS.values() for rule in pack.rules):
        found = merged.rule(rule.kind, rule.of)
        assert found is not None
        assert stricter(found, rule).value == found.value


def test_the_order_of_packs_changes_no_value() -> None:
    expected = [(rule.kind, rule.of, rule.value) for rule in strictest(PACKS.values()).rules]
    for order in permutations(PACKS.values()):
        assert [(rule.kind, rule.of, rule.value) for rule in strictest(order).rules] == expected


def test_strictest_everywhere_judges_a_tenant_by_packs_that_it_does_not_name() -> None:
    found = rules_found(lint(STRICT, PACKS, is_strictest=True))
    assert "tcpa.retention.consents" in found
    assert "dpdp.retention.access_logs.minimum" in found


def test_the_suggestion_satisfies_all_packs_of_the_tenant() -> None:
    facts = replace(STRICT, jurisdictions=("gdpr", "dpdp"), deadline_days={**STRICT.deadline_days, "access": 120})
    by_rule = {finding.rule: finding for finding in lint(facts, PACKS)}
    assert by_rule["dpdp.rights.access"].suggestion == "30"
    assert by_rule["gdpr.rights.access"].suggestion == "30"


def test_hours_that_only_overlap_are_merged_to_what_both_allow() -> None:
    (early,) = (rule for rule in PACKS["tcpa"].rules if rule.kind is RuleKind.CALLING_HOURS)
    late = replace(early, id="x.outbound.hours", value=Hours(first=time(10), last=time(22)))
    assert stricter(early, late).value == Hours(first=time(10), last=time(21))
    assert stricter(early, late).id == "tcpa.outbound.hours+x.outbound.hours"
    assert show(stricter(late, early).value) == '{from: "10:00", until: "21:00"}'


def _with_rule(pack: Pack, rule: Rule) -> Pack:
    return replace(pack, rules=(*pack.rules, rule))


def test_a_minimum_above_a_maximum_is_shown_as_a_contradiction() -> None:
    maximum = next(rule for rule in PACKS["gdpr"].rules if rule.id == "gdpr.retention.call_metadata")
    packs = {**PACKS, "gdpr": _with_rule(PACKS["gdpr"], replace(maximum, id="gdpr.retention.shorter", value=100))}
    findings = lint(replace(STRICT, jurisdictions=("gdpr", "dpdp")), packs)
    assert "dpdp.retention.call_metadata.minimum+gdpr.retention.shorter" in rules_found(findings, Severity.WARNING)
