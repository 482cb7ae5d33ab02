"""Which tenants, agents, intents and reasons exist, and where. In memory; refreshed after every change.

Names of earlier revisions stay known: a node may still run an older bundle, and its rollups must not be refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import apsw

from contract.documents import AgentDocument, AgentSpec, FlowDocument, PolicyDocument, RegionDocument, TenantDocument
from contract.documents_shape import CheckedDocument
from controlplane.bundles.outbox import newest_versions
from controlplane.database import HubDatabase
from controlplane.documents.estate import Estate, regions_in, regions_of, tenants_of
from controlplane.documents.store import as_entry, load_estate, revisions_after

# Reasons that a node gives without a document: edge/conversation and edge/call.
BUILT_IN_REASONS = frozenset({
    "asked_for_human", "consent_declined", "consent_unclear", "misunderstood", "not_known", "technical_problem",
    "tool_failed",
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNames:
    """Every name that documents ever gave. Agents and reasons by tenant, intents by (tenant, agent)."""

    tenants: frozenset[str] = frozenset()
    agents: Mapping[str, frozenset[str]] = field(default_factory=dict)
    intents: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    reasons: Mapping[str, frozenset[str]] = field(default_factory=dict)


class Catalogue:
    """Answers from memory what the newest documents say. `refresh` reads the database."""

    def __init__(self, database: HubDatabase) -> None:
        self._database = database
        self._seen_row = 0
        self._names = _Names()
        self._known = KnownNames()
        self._regions: dict[str, tuple[str, ...]] = {}
        self._all_regions: tuple[str, ...] = ()
        self._bundle_versions: dict[str, int] = {}

    async def refresh(self) -> None:
        """Read what changed since the last time."""
        await self._database.read(self._read)
        self._known = self._names.frozen()

    def regions(self) -> tuple[str, ...]:
        """All regions that have a document."""
        return self._all_regions

    def regions_of(self, tenant: str) -> tuple[str, ...]:
        """The regions that serve a tenant; empty for one that is not known."""
        return self._regions.get(tenant, ())

    def tenants_in(self, region: str) -> tuple[str, ...]:
        """The tenants that a region serves."""
        return tuple(tenant for tenant, regions in self._regions.items() if region in regions)

    def names(self) -> KnownNames:
        """Every name that was ever given."""
        return self._known

    def bundle_version(self, region: str) -> int:
        """The newest version compiled for a region; 0 before the first."""
        return self._bundle_versions.get(region, 0)

    def _read(self, connection: apsw.Connection) -> None:
        estate, _ = load_estate(connection)
        self._take_places(estate)
        self._bundle_versions = {name: bundle.version for name, bundle in newest_versions(connection).items()}
        for row_id, stored in revisions_after(connection, self._seen_row):
            checked = as_entry(stored).checked() if not stored.is_deleted else None
            if checked is not None:
                self._names.add(stored.key.tenant, checked)
            self._seen_row = row_id

    def _take_places(self, estate: Estate) -> None:
        self._regions = {tenant: regions_of(estate, tenant) for tenant in tenants_of(estate)}
        self._all_regions = tuple(regions_in(estate))


class _Names:
    """Collects names; nothing is ever taken out."""

    def __init__(self) -> None:
        self._tenants: set[str] = set()
        self._agents: dict[str, set[str]] = {}
        self._intents: dict[tuple[str, str], set[str]] = {}
        self._reasons: dict[str, set[str]] = {}

    def add(self, tenant: str, checked: CheckedDocument) -> None:
        match checked.document:
            case TenantDocument():
                self._tenants.add(tenant)
            case AgentDocument(metadata=metadata, spec=spec):
                self._add_agent(tenant, metadata.name, spec)
            case FlowDocument(spec=spec):
                reasons = {step.hand_over.reason for step in spec.steps if step.hand_over is not None}
                self._reasons.setdefault(tenant, set()).update(reasons)
            case PolicyDocument(spec=spec):
                self._reasons.setdefault(tenant, set()).update(spec.sensitive)
            case RegionDocument():
                pass

    def _add_agent(self, tenant: str, agent: str, spec: AgentSpec) -> None:
        self._agents.setdefault(tenant, set()).add(agent)
        self._intents.setdefault((tenant, agent), set()).update(spec.intents)
        reasons = {intent.escalate for intent in spec.intents.values() if intent.escalate is not None}
        self._reasons.setdefault(tenant, set()).update(reasons)

    def frozen(self) -> KnownNames:
        return KnownNames(
            tenants=frozenset(self._tenants),
            agents={tenant: frozenset(names) for tenant, names in self._agents.items()},
            intents={agent: frozenset(names) for agent, names in self._intents.items()},
            reasons={tenant: BUILT_IN_REASONS | frozenset(self._reasons.get(tenant, ())) for tenant in self._tenants},
        )
