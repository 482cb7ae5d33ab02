"""Which calls of a region its backup may take, and by which rule not: from documents and packs. Pure but for the packs
of the release, which are read once.

A backup serves a tenant as its own regions do: with its documents, its knowledge, and records that stay there. So it
must hold to every rule of that region, too; what does not is refused for this tenant, and the nodes of both are told.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Self

from contract.documents import AgentDocument, GovernancePart, RegionSpec
from controlplane.documents.estate import Estate, documents_of, region_spec, regions_of, tenant_spec, tenants_of
from controlplane.documents.judgement import facts_of, region_facts
from controlplane.documents.model import AGENT, REGION, DocumentKey, Finding
from controlplane.jurisdictions.facts import RegionFacts
from controlplane.jurisdictions.lint import Severity, lint
from controlplane.jurisdictions.packs import load_packs
from controlplane.jurisdictions.pairs import READ_MORE, PairRefusal, pair_refusal
from controlplane.jurisdictions.rules import Pack

NOT_ASKED = "tenant.residency.backup"
DATA_CLASSES = "region.allowed_data_classes"
NUMBER_TAKEN = "hub.number_taken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """A tenant of `region`, whose calls `backup` takes when they are sent there, unless a rule refuses it."""

    region: str
    backup: str
    tenant: str
    numbers: tuple[str, ...]
    refused_by: str = ""
    article: str = ""


@dataclass(frozen=True, slots=True)
class PackBacking:
    """Judges by jurisdiction packs."""

    packs: Mapping[str, Pack]

    @classmethod
    def of_release(cls) -> Self:
        """By the packs of this release. Raises PackInvalidError."""
        return cls(_release_packs())

    def findings(self, estate: Estate, regions: Iterable[str]) -> list[Finding]:
        """Pairs that may not be, among those that any of these regions is part of."""
        touched = set(regions)
        return [
            _finding(region, refusal)
            for region, backup in _pairs(estate)
            if touched & {region.name, backup.name}
            and (refusal := pair_refusal(region, backup, self.packs)) is not None
        ]

    def of(self, estate: Estate) -> tuple[Backing, ...]:
        """Every tenant of every region that has a backup, where it is not served there anyway."""
        pairs = {region.name: (region, backup) for region, backup in _pairs(estate)}
        found: dict[tuple[str, str], Backing] = {}
        for tenant in tenants_of(estate):
            own = regions_of(estate, tenant)
            for region, backup in (pairs[name] for name in own if name in pairs):
                if backup.name not in own:
                    backing = self._judged(estate, tenant, region, backup)
                    # Of two regions with one backup the stricter judgement holds: a call does not say whose it is.
                    known = found.get((tenant, backup.name))
                    found[tenant, backup.name] = known if known is not None and known.refused_by else backing
        return tuple(found[key] for key in sorted(found))

    def served(self, estate: Estate) -> dict[str, tuple[str, ...]]:
        """The regions that serve each tenant: its own, and the backups that may."""
        of_tenant = {tenant: list(regions_of(estate, tenant)) for tenant in tenants_of(estate)}
        for backing in self.of(estate):
            if not backing.refused_by:
                of_tenant[backing.tenant].append(backing.backup)
        return {tenant: tuple(regions) for tenant, regions in of_tenant.items()}

    def _judged(self, estate: Estate, tenant: str, region: RegionFacts, backup: RegionFacts) -> Backing:
        refusal = next(self._refusals(estate, tenant, region, backup), None)
        return Backing(
            region=region.name,
            backup=backup.name,
            tenant=tenant,
            numbers=tuple(sorted(_numbers(estate, tenant))),
            refused_by=refusal.rule if refusal is not None else "",
            article=refusal.article if refusal is not None else "",
        )

    def _refusals(self, estate: Estate, tenant: str, region: RegionFacts, backup: RegionFacts) -> Iterator[PairRefusal]:
        governance = _governance(estate, tenant)
        if not governance.residency.backup:
            yield PairRefusal(rule=NOT_ASKED, article=READ_MORE, message="The tenant does not ask for it.")
        refusal = pair_refusal(region, backup, self.packs, governance.jurisdictions)
        if refusal is not None:
            yield refusal
        allowed = _spec(estate, backup.name).allowed_data_classes
        if allowed is not None and not set(governance.data_classes) <= set(allowed):
            yield PairRefusal(rule=DATA_CLASSES, article=READ_MORE, message="The backup may not hold such data.")
        facts = facts_of(estate, tenant, governance)
        there = replace(facts, regions=(*facts.regions, backup), backups=())
        for finding in lint(there, self.packs):
            if finding.severity is Severity.ERROR:
                yield PairRefusal(rule=finding.rule, article=finding.article, message=finding.message)
        others = [other for other in tenants_of(estate) if backup.name in regions_of(estate, other)]
        if _numbers(estate, tenant) & {number for other in others for number in _numbers(estate, other)}:
            yield PairRefusal(rule=NUMBER_TAKEN, article=READ_MORE, message="Another tenant answers its number there.")


@cache
def _release_packs() -> Mapping[str, Pack]:
    return load_packs()


def _pairs(estate: Estate) -> Iterator[tuple[RegionFacts, RegionFacts]]:
    for key in sorted(key for key in estate if key.kind == REGION):
        region = region_facts(estate, key.name)
        backup = region_facts(estate, region.backup) if region is not None and region.backup is not None else None
        if region is not None and backup is not None and region.name != backup.name:
            yield region, backup


def _governance(estate: Estate, tenant: str) -> GovernancePart:
    spec = tenant_spec(estate, tenant)
    return spec.governance if spec is not None and spec.governance is not None else GovernancePart()


def _spec(estate: Estate, region: str) -> RegionSpec:
    found = region_spec(estate, region)
    assert found is not None, "a pair is made of regions that were read"
    return found[1]


def _numbers(estate: Estate, tenant: str) -> set[str]:
    agents = [entry.checked() for entry in documents_of(estate, tenant) if entry.key.kind == AGENT]
    documents = [checked.document for checked in agents if checked is not None]
    return {number for document in documents if isinstance(document, AgentDocument) for number in document.spec.numbers}


def _finding(region: RegionFacts, refusal: PairRefusal) -> Finding:
    return Finding(
        is_error=True,
        key=DocumentKey(kind=REGION, tenant="", name=region.name),
        field="spec.backup",
        rule=refusal.rule,
        source=refusal.article,
        message=refusal.message,
        suggestion="a region under the same law, or no backup",
    )
