"""Holds a tenant's documents against the jurisdiction packs: from documents to the linter's facts and back. Pure."""

from typing import Protocol

from contract.documents import GovernancePart
from controlplane.documents.estate import Estate, region_spec, tenant_spec
from controlplane.documents.model import TENANT, DocumentKey, Finding
from controlplane.jurisdictions.facts import GovernanceFacts, RegionFacts
from controlplane.jurisdictions.lint import Severity, lint
from controlplane.jurisdictions.packs import load_packs
from controlplane.jurisdictions.rules import Hours

NO_REGION = "hub.no_region"


class Judge(Protocol):
    """Finds where a tenant is looser than it may be. Raises UnknownPackError."""

    def __call__(self, estate: Estate, tenant: str, *, is_strictest: bool = False) -> list[Finding]: ...


def pack_judge() -> Judge:
    """A judge by the packs of this release. Raises PackInvalidError."""
    packs = load_packs()

    def judge(estate: Estate, tenant: str, *, is_strictest: bool = False) -> list[Finding]:
        """Where a tenant is looser than its packs. Raises UnknownPackError."""
        spec = tenant_spec(estate, tenant)
        if spec is None:
            return []
        governance = spec.governance or GovernancePart()
        found = lint(facts_of(estate, tenant, governance), packs, is_strictest=is_strictest)
        key = DocumentKey(kind=TENANT, tenant=tenant, name=tenant)
        findings = [
            Finding(
                is_error=finding.severity is Severity.ERROR,
                key=key,
                field=finding.key,
                rule=finding.rule,
                source=finding.article,
                message=finding.message,
                suggestion=finding.suggestion,
            )
            for finding in found
        ]
        return findings + ([] if governance.regions else [_no_region(key)])

    return judge


def facts_of(estate: Estate, tenant: str, governance: GovernancePart) -> GovernanceFacts:
    """What the linter must know of a tenant."""
    regions = [facts for name in governance.regions if (facts := region_facts(estate, name)) is not None]
    own = {region.name for region in regions}
    backups = [region.backup for region in regions if region.backup is not None and region.backup not in own]
    hours = governance.outbound.hours if governance.outbound is not None else None
    return GovernanceFacts(
        tenant=tenant,
        jurisdictions=tuple(governance.jurisdictions),
        regions=tuple(regions),
        backups=tuple(facts for name in backups if (facts := region_facts(estate, name)) is not None),
        data_classes=frozenset(governance.data_classes),
        recording_consent=governance.recording.consent if governance.recording is not None else None,
        makes_calls=governance.outbound is not None,
        outbound_consent=governance.outbound.consent if governance.outbound is not None else None,
        calling_hours=Hours(first=hours.from_, last=hours.until) if hours is not None else None,
        retention_days=governance.retention.model_dump(exclude_none=True),
        may_leave=frozenset(governance.residency.may_leave),
        deadline_days=governance.rights.model_dump(exclude_none=True),
        breach_hours=governance.breach.model_dump(exclude_none=True),
        minimum_group=governance.aggregates.minimum_group if governance.aggregates is not None else None,
    )


def region_facts(estate: Estate, name: str) -> RegionFacts | None:
    """What the linter must know of a region; None where it has no document that holds."""
    found = region_spec(estate, name)
    if found is None:
        return None
    _, spec = found
    return RegionFacts(name=name, country=spec.country, jurisdictions=tuple(spec.jurisdictions), backup=spec.backup)


def _no_region(key: DocumentKey) -> Finding:
    return Finding(
        is_error=False,
        key=key,
        field="spec.governance.regions",
        rule=NO_REGION,
        source="controlplane/README.md",
        message="The tenant names no region, so that no node serves it.",
        suggestion="regions: [NAME]",
    )
