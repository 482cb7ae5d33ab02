"""The replicas that are open in this process: all agents that ask for the same sources of a tenant share one.

Opening 80,000 items takes most of a second of processor time in every worker; a change of documents must not wait for
it. What no agent holds any more is closed by being forgotten.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from weakref import WeakValueDictionary

from edge.call.ports import Embedder
from edge.knowledge.base import KnowledgeBase, open_replica
from edge.knowledge.replica import link_path

_Key = tuple[str, frozenset[str], frozenset[tuple[str, str]]]


class KnowledgeShelf:
    """The replicas of one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: WeakValueDictionary[_Key, KnowledgeBase] = WeakValueDictionary()

    def path(self, tenant: str) -> Path:
        """Where the tenant's replica is, or will be."""
        return link_path(self._folder, tenant)

    async def knowledge(
        self, tenant: str, sources: Sequence[str], mentions: Mapping[str, str], embedder: Embedder
    ) -> KnowledgeBase | None:
        """Return the tenant's knowledge, None while there is no replica. Raises as `open_replica` does."""
        key = (tenant, frozenset(sources), frozenset(mentions.items()))
        known = self._open.get(key)
        if known is not None:
            return known
        path = self.path(tenant)
        if not path.exists():
            return None
        opened = await open_replica(path, sources, mentions, embedder, tenant=tenant)
        self._open[key] = opened
        return opened
