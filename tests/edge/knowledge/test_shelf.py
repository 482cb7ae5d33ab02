"""Agents that ask for the same sources of a tenant share what is open."""

import gc
import weakref
from pathlib import Path

from edge.knowledge.replica import KnowledgeReplica
from edge.knowledge.shelf import KnowledgeShelf
from tests.edge.knowledge.snapshots import an_item, make_snapshot
from tests.edge.knowledge.test_following import Letters

TENANT = "acme"


async def test_what_is_open_is_shared_by_source_and_tenant(tmp_path: Path) -> None:
    replica = KnowledgeReplica(tmp_path / "knowledge")
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item("hours")], tenant=TENANT))
    shelf = KnowledgeShelf(tmp_path / "knowledge")
    first = await shelf.knowledge(TENANT, ["products"], {}, Letters())
    assert first is not None
    assert await shelf.knowledge(TENANT, ["products"], {}, Letters()) is first
    assert await shelf.knowledge(TENANT, ["products"], {"products": "the lamp"}, Letters()) is not first


async def test_what_no_agent_holds_is_forgotten(tmp_path: Path) -> None:
    replica = KnowledgeReplica(tmp_path / "knowledge")
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item("hours")], tenant=TENANT))
    shelf = KnowledgeShelf(tmp_path / "knowledge")
    first = await shelf.knowledge(TENANT, ["products"], {}, Letters())
    assert first is not None
    held = weakref.ref(first)
    del first
    gc.collect()
    assert held() is None


async def test_a_tenant_without_a_replica_has_no_knowledge_yet(tmp_path: Path) -> None:
    assert await KnowledgeShelf(tmp_path).knowledge(TENANT, ["products"], {}, Letters()) is None
