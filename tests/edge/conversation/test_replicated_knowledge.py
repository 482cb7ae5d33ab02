"""A conversation whose knowledge comes from the tenant's replica says what was published last."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.model_manifest import ModelKind
from edge.call.ports import Embedder, Priority, Purpose
from edge.conversation.conversation import AgentConversation
from edge.conversation.documents import load_agents
from edge.inference.minilm import SentenceEncoder
from edge.inference.model_store import open_model
from edge.knowledge.items import Item, load_items
from edge.knowledge.replica import KnowledgeReplica
from edge.knowledge.shelf import KnowledgeShelf
from tests.edge.conversation.conftest import NOW, ROOT, STORE
from tests.edge.knowledge.snapshots import make_delta, make_snapshot

TENANT = "volt-electronics"
PURPOSE = Purpose(tenant=TENANT, call_id="c", priority=Priority.LIVE, budget_s=1.0)
ITEMS = {
    item.id: item
    for source, file in (("products", "products.csv"), ("store", "store.yaml"))
    for item in load_items(ROOT / "edge/tenants" / TENANT / "knowledge" / file, source)
}


@pytest.fixture(scope="module")
def encode(embedder: Embedder) -> "_Encode":
    return _Encode(SentenceEncoder(open_model(STORE, "minilm-l6-v2", ModelKind.EMBEDDING), threads=1))


class _Encode:
    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return self._encoder.embed(texts)


@pytest.fixture
def replica(tmp_path: Path, encode: _Encode) -> KnowledgeReplica:
    """Version 1: what the tenant's files say."""
    made = KnowledgeReplica(tmp_path / "knowledge")
    made.apply_snapshot(*make_snapshot(tmp_path, list(ITEMS.values()), tenant=TENANT, embed=encode))
    return made


async def loaded(embedder: Embedder, folder: Path) -> AgentConversation:
    agent = load_agents(ROOT / "edge/tenants" / TENANT)[0]
    return await AgentConversation.load(agent, embedder, cache=None, shelf=KnowledgeShelf(folder), now=lambda: NOW)


async def answer(conversation: AgentConversation, question: str) -> str:
    reply = await conversation.respond(conversation.opening().state, question, PURPOSE)
    return " ".join(speech.text for speech in reply.speeches)


def with_price(item: Item, price: str) -> Item:
    return replace(item, version=item.version + 1, attributes={**item.attributes, "price": price})


async def test_a_price_is_the_one_published_last(
    replica: KnowledgeReplica, embedder: Embedder, encode: _Encode, tmp_path: Path
) -> None:
    """The same conversation says the old price, then the new one; an item that expired is not known any more."""
    conversation = await loaded(embedder, tmp_path / "knowledge")
    assert conversation.knowledge_version == 1
    assert "seventy-nine" in (await answer(conversation, "how much are the aero buds")).lower()
    dearer = with_price(ITEMS["aerobuds"], "88.00")
    delta = make_delta([dearer], version=2, items=len(ITEMS), tenant=TENANT, embed=encode)
    await asyncio.to_thread(replica.apply_delta, *delta)
    assert "eighty-eight" in (await answer(conversation, "how much are the aero buds")).lower()
    assert conversation.knowledge_version == 2
    over = replace(dearer, valid_until=NOW.date().replace(day=1))
    delta = make_delta([over], version=3, items=len(ITEMS), tenant=TENANT, embed=encode)
    await asyncio.to_thread(replica.apply_delta, *delta)
    assert "eighty" not in (await answer(conversation, "how much are the aero buds")).lower()


async def test_answers_are_those_of_the_files(replica: KnowledgeReplica, embedder: Embedder, tmp_path: Path) -> None:
    """The example tenant behaves the same from its replica."""
    from_replica = await loaded(embedder, tmp_path / "knowledge")
    from_files = await loaded(embedder, tmp_path / "nothing-here")
    for question in (
        "when are you open on sunday",
        "can I return something without the receipt",
        "what does the crisp hair cost",
        "do you have the novabook in stock",
        "is there parking at the store",
        "who won the world cup",
    ):
        assert await answer(from_replica, question) == await answer(from_files, question)
    assert set(from_replica.fixed_texts()) == set(from_files.fixed_texts())
