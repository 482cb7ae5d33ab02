"""All documents of the hub at one moment, and whether they fit together. Pure."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from contract.documents import AgentDocument, RegionDocument, RegionSpec, TenantDocument, TenantSpec
from contract.documents_references import reference_problems, time_zone_problems
from contract.documents_shape import CheckedDocument, suggestion
from contract.documents_source import DocumentProblem
from controlplane.documents.model import REGION, TENANT, Change, ChangeKind, DocumentKey, Entry

Estate = Mapping[DocumentKey, Entry]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would be: the changes, and the estate after them."""

    changes: tuple[Change, ...]
    after: Estate

    @property
    def touched_tenants(self) -> frozenset[str]:
        """Tenants whose documents or regions change."""
        tenants = {key.tenant for key in self._changed() if key.kind != REGION}
        regions = self.touched_regions
        return frozenset(
            tenants | {tenant for tenant in tenants_of(self.after) if regions & set(regions_of(self.after, tenant))}
        )

    @property
    def touched_regions(self) -> frozenset[str]:
        """Regions whose own documents change."""
        return frozenset(key.name for key in self._changed() if key.kind == REGION)

    def _changed(self) -> list[DocumentKey]:
        return [change.key for change in self.changes if change.kind is not ChangeKind.UNCHANGED]


def make_plan(
    before: Estate, entries: Estate, removed: Iterable[DocumentKey], revisions: Mapping[DocumentKey, int]
) -> Plan:
    """Put entries into the estate and take `removed` out. `revisions` is the newest number of each key ever stored."""
    after = dict(before)
    changes: list[Change] = []
    for key, entry in entries.items():
        old = before.get(key)
        if old is not None and old.yaml == entry.yaml:
            changes.append(Change(key=key, kind=ChangeKind.UNCHANGED, revision=old.revision, diff=""))
            continue
        revision = revisions.get(key, 0) + 1
        after[key] = replace(entry, revision=revision)
        kind = ChangeKind.CREATED if old is None else ChangeKind.UPDATED
        diff = _diff(old.yaml if old is not None else "", entry.yaml, key)
        changes.append(Change(key=key, kind=kind, revision=revision, diff=diff, yaml=entry.yaml))
    for key in removed:
        old = after.pop(key)
        diff = _diff(old.yaml, "", key)
        changes.append(Change(key=key, kind=ChangeKind.DELETED, revision=revisions[key] + 1, diff=diff))
    return Plan(changes=tuple(changes), after=after)


def tenants_of(estate: Estate) -> list[str]:
    return sorted(key.name for key in estate if key.kind == TENANT)


def regions_in(estate: Estate) -> list[str]:
    return sorted(key.name for key in estate if key.kind == REGION)


def regions_of(estate: Estate, tenant: str) -> tuple[str, ...]:
    """The regions that serve a tenant."""
    spec = tenant_spec(estate, tenant)
    return tuple(spec.governance.regions) if spec is not None and spec.governance is not None else ()


def documents_of(estate: Estate, tenant: str) -> list[Entry]:
    found = [key for key in estate if key.tenant == tenant and key.kind != REGION]
    return [estate[key] for key in sorted(found)]


def tenant_spec(estate: Estate, tenant: str) -> TenantSpec | None:
    entry = estate.get(DocumentKey(kind=TENANT, tenant=tenant, name=tenant))
    checked = entry.checked() if entry is not None else None
    return checked.document.spec if checked is not None and isinstance(checked.document, TenantDocument) else None


def region_spec(estate: Estate, region: str) -> tuple[CheckedDocument, RegionSpec] | None:
    entry = estate.get(DocumentKey(kind=REGION, tenant="", name=region))
    checked = entry.checked() if entry is not None else None
    if checked is None or not isinstance(checked.document, RegionDocument):
        return None
    return checked, checked.document.spec


def estate_problems(plan: Plan) -> list[DocumentProblem]:
    """Every mistake in what the plan touches: names that lead nowhere, regions and data classes that do not fit,
    telephone numbers that two agents of a region would answer."""
    problems: list[DocumentProblem] = []
    for tenant in sorted(plan.touched_tenants):
        problems += _tenant_problems(plan.after, tenant)
    for change in plan.changes:
        if change.key.kind == REGION and change.kind in (ChangeKind.CREATED, ChangeKind.UPDATED):
            problems += _region_problems(plan.after, change.key.name)
    return problems + _number_problems(plan.after, plan.touched_tenants)


def _tenant_problems(estate: Estate, tenant: str) -> list[DocumentProblem]:
    entries = documents_of(estate, tenant)
    broken = [problem for entry in entries for problem in entry.problems()]
    if broken:
        return broken
    checked = [document for entry in entries if (document := entry.checked()) is not None]
    owners = [entry for entry in checked if isinstance(entry.document, TenantDocument)]
    if not owners:
        known = tenants_of(estate)
        hint = suggestion(tenant, known)
        message = f"there is no Tenant named {tenant!r}"
        return [entry.source.problem(("metadata", "tenant"), message, hint) for entry in checked]
    return reference_problems(checked) + _residency_problems(estate, owners[0])


def _residency_problems(estate: Estate, owner: CheckedDocument) -> list[DocumentProblem]:
    assert isinstance(owner.document, TenantDocument)
    governance = owner.document.spec.governance
    if governance is None:
        return []
    problems: list[DocumentProblem] = []
    for index, region in enumerate(governance.regions):
        found = region_spec(estate, region)
        if found is None:
            known = regions_in(estate)
            message = (
                f"{region!r} is not a region; one of {', '.join(known)}" if known else "there is no Region document"
            )
            key = ("spec", "governance", "regions", index)
            problems.append(owner.source.problem(key, message, suggestion(region, known)))
            continue
        document, spec = found
        for place, name in enumerate(governance.data_classes):
            if spec.allowed_data_classes is not None and name not in spec.allowed_data_classes:
                rule = document.source.problem(("spec", "allowed_data_classes"), "").line
                allowed = ", ".join(spec.allowed_data_classes) or "none"
                message = (
                    f"data class {name!r} is not allowed in region {region}: rule spec.allowed_data_classes "
                    f"in {document.source.path}:{rule} allows {allowed}"
                )
                problems.append(owner.source.problem(("spec", "governance", "data_classes", place), message))
    return problems


def _region_problems(estate: Estate, region: str) -> list[DocumentProblem]:
    found = region_spec(estate, region)
    if found is None:
        return estate[DocumentKey(kind=REGION, tenant="", name=region)].problems()
    document, spec = found
    problems = time_zone_problems(document.source, spec.timezone)
    if spec.backup is not None and (spec.backup == region or region_spec(estate, spec.backup) is None):
        known = [name for name in regions_in(estate) if name != region]
        message = (
            f"{spec.backup!r} is no other region; one of {', '.join(known)}" if known else "there is no other region"
        )
        problems.append(document.source.problem(("spec", "backup"), message, suggestion(spec.backup, known)))
    return problems


def _number_problems(estate: Estate, touched: frozenset[str]) -> list[DocumentProblem]:
    problems: list[DocumentProblem] = []
    owners: dict[tuple[str, str], DocumentKey] = {}
    # Stored tenants first, so that the problem stands where the operator made it.
    for key, entry in sorted(estate.items(), key=lambda item: (item[0].tenant in touched, item[0])):
        checked = entry.checked()
        if checked is None or not isinstance(checked.document, AgentDocument):
            continue
        for region in regions_of(estate, key.tenant):
            for index, number in enumerate(checked.document.spec.numbers):
                owner = owners.setdefault((region, number), key)
                if owner != key and key.tenant in touched:
                    message = f"{number} is already answered by {owner} in region {region}"
                    problems.append(checked.source.problem(("spec", "numbers", index), message))
    return problems


def _diff(old: str, new: str, key: DocumentKey) -> str:
    names = ("/dev/null" if not old else f"stored/{key}", "/dev/null" if not new else f"applied/{key}")
    return "".join(difflib.unified_diff(old.splitlines(keepends=True), new.splitlines(keepends=True), *names))
