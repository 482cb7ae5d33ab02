"""What the linter must know of a tenant. Its own shape, so that documents may change without the linter."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from controlplane.jurisdictions.rules import Hours


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionFacts:
    """A region that serves the tenant. `country` is ISO 3166 alpha-2, `backup` the region that may take its calls."""

    name: str
    country: str
    jurisdictions: tuple[str, ...] = ()
    backup: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernanceFacts:
    """How a tenant is configured. None or a missing entry: the tenant does not say.

    `backups` are the regions that those of the tenant name as backup, and that may be none of its own.
    `outbound_consent` and `calling_hours` are None together when the tenant calls nobody.
    """

    tenant: str
    jurisdictions: tuple[str, ...] = ()
    regions: tuple[RegionFacts, ...] = ()
    backups: tuple[RegionFacts, ...] = ()
    data_classes: frozenset[str] = frozenset()
    recording_consent: str | None = None
    makes_calls: bool = False
    outbound_consent: str | None = None
    calling_hours: Hours | None = None
    retention_days: Mapping[str, int] = field(default_factory=dict)
    may_leave: frozenset[str] = frozenset({"aggregates"})
    deadline_days: Mapping[str, int] = field(default_factory=dict)
    breach_hours: Mapping[str, int] = field(default_factory=dict)
    minimum_group: int | None = None

    def region(self, name: str) -> RegionFacts | None:
        """A region or backup by its name."""
        return next((region for region in (*self.regions, *self.backups) if region.name == name), None)
