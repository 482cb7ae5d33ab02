"""Which tenants, agents, intents and reasons exist, and where. In memory; refreshed after every change.

Names of earlier revisions stay known: a node may still run an older bundle, and its rollups must not be refused.
"""

from collections.abc import Collection, Iterable, Mapping

import apsw

from contract.documents import AgentDocument, AgentSpec, FlowDocument, PolicyDocument, RegionDocument, TenantDocument
from contract.documents_shape import CheckedDocument
from controlplane.bundles.outbox import all_versions
from controlplane.database import HubDatabase
from controlplane.documents.backing import PackBacking
from controlplane.documents.estate import regions_in
from controlplane.documents.store import as_entry, load_estate, revisions_after


class Catalogue:
    """Answers from memory what the newest documents say, and what any revision ever named. `refresh` reads the
    database."""

    def __init__(self, database: HubDatabase) -> None:
        self._database = database
        self._backing = PackBacking.of_release()
        self._seen_row = 0
        self._names = _Names()
        self._regions_of: dict[str, tuple[str, ...]] = {}
        self._regions: tuple[str, ...] = ()
        self._bundles: dict[str, frozenset[int]] = {}

    async def refresh(self) -> None:
        """Read what changed since the last time."""
        await self._database.read(self._read)

    # What holds now.

    def regions(self) -> tuple[str, ...]:
        """All regions that have a document."""
        return self._regions

    def regions_of(self, tenant: str) -> tuple[str, ...]:
        """The regions that serve a tenant, backups too; empty for one that is not known."""
        return self._regions_of.get(tenant, ())

    def tenants_in(self, region: str) -> tuple[str, ...]:
        """The tenants that a region serves."""
        return tuple(tenant for tenant, regions in self._regions_of.items() if region in regions)

    def newest_bundle(self, region: str) -> int:
        """The newest version compiled for a region; 0 before the first."""
        return max(self._bundles.get(region, ()), default=0)

    def has_bundle(self, region: str, version: int) -> bool:
        """Whether this version was compiled from documents that the database holds."""
        return version in self._bundles.get(region, ())

    # What any revision named.

    def tenants(self, region: str) -> Collection[str]:
        """Tenants that the region serves or ever served."""
        return self._names.tenants.get(region, frozenset())

    def agents(self, tenant: str) -> Collection[str]:
        return self._names.agents.get(tenant, frozenset())

    def intents(self, tenant: str, agent: str) -> Collection[str]:
        return self._names.intents.get((tenant, agent), frozenset())

    def reasons(self, tenant: str) -> Collection[str]:
        """Reasons of escalation that documents name; those built into nodes are in contract/builtin_names.py."""
        return self._names.reasons.get(tenant, frozenset())

    def owners(self, kind: str, name: str) -> Collection[str]:
        """Tenants that have or had a document of this kind and name, the one changed last first; a region's is ""."""
        return tuple(self._names.owners.get((kind, name), ()))[::-1]

    def _read(self, connection: apsw.Connection) -> None:
        estate, _ = load_estate(connection)
        self._regions_of = self._backing.served(estate)
        self._names.add_served(self._regions_of)
        self._regions = tuple(regions_in(estate))
        self._bundles = all_versions(connection)
        for row_id, stored in revisions_after(connection, self._seen_row):
            checked = as_entry(stored).checked() if not stored.is_deleted else None
            if checked is not None:
                self._names.add(stored.key.tenant, checked)
            self._seen_row = row_id


class _Names:
    """Collects names; nothing is ever taken out."""

    def __init__(self) -> None:
        self.tenants: dict[str, set[str]] = {}
        self.agents: dict[str, set[str]] = {}
        self.intents: dict[tuple[str, str], set[str]] = {}
        self.reasons: dict[str, set[str]] = {}
        # By kind and name; the tenant whose document changed last comes last.
        self.owners: dict[tuple[str, str], dict[str, None]] = {}

    def add_served(self, regions_of: Mapping[str, Iterable[str]]) -> None:
        """A backup that takes a tenant's calls tells of them; no document of the tenant names it."""
        for tenant, regions in regions_of.items():
            for region in regions:
                self.tenants.setdefault(region, set()).add(tenant)

    def add(self, tenant: str, checked: CheckedDocument) -> None:
        owners = self.owners.setdefault((checked.document.kind, checked.document.metadata.name), {})
        owners.pop(tenant, None)
        owners[tenant] = None
        match checked.document:
            case TenantDocument(spec=spec):
                for region in spec.governance.regions if spec.governance is not None else ():
                    self.tenants.setdefault(region, set()).add(tenant)
            case AgentDocument(metadata=metadata, spec=spec):
                self._add_agent(tenant, metadata.name, spec)
            case FlowDocument(spec=spec):
                reasons = {step.hand_over.reason for step in spec.steps if step.hand_over is not None}
                self.reasons.setdefault(tenant, set()).update(reasons)
            case PolicyDocument(spec=spec):
                self.reasons.setdefault(tenant, set()).update(spec.sensitive)
            case RegionDocument():
                pass

    def _add_agent(self, tenant: str, agent: str, spec: AgentSpec) -> None:
        self.agents.setdefault(tenant, set()).add(agent)
        self.intents.setdefault((tenant, agent), set()).update(spec.intents)
        reasons = {intent.escalate for intent in spec.intents.values() if intent.escalate is not None}
        self.reasons.setdefault(tenant, set()).update(reasons)
