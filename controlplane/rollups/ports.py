"""What the store of rollups needs from the rest of the hub."""

from collections.abc import Collection
from typing import Protocol


class KnownNames(Protocol):
    """Names that documents gave, in any revision: a node may still run an older bundle."""

    def tenants(self, region: str) -> Collection[str]:
        """Tenants that the region serves or served."""

    def agents(self, tenant: str) -> Collection[str]:
        """Agents of a tenant."""

    def intents(self, tenant: str, agent: str) -> Collection[str]:
        """Intents of an agent."""

    def reasons(self, tenant: str) -> Collection[str]:
        """Reasons of escalation that a tenant's documents name."""

    def newest_bundle(self, region: str) -> int:
        """The newest bundle version compiled for a region; 0 before the first."""

    def has_bundle(self, region: str, version: int) -> bool:
        """Whether the documents of this version are known; after a restore some between others are not."""
