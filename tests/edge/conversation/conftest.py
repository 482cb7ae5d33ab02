"""The real MiniLM in this process, and the example tenants on it."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path

import pytest

from contract.model_manifest import ModelKind
from edge.call.ports import Embedder
from edge.conversation.calibrate import LocalEmbedder
from edge.conversation.conversation import AgentConversation
from edge.conversation.documents import load_agents
from edge.inference.minilm import SentenceEncoder
from edge.inference.model_store import open_model
from provisioning.models.fetching import fetch
from provisioning.models.store import ModelStore

ROOT = Path(__file__).parents[3]
STORE = ROOT / ".state/models"
# A Tuesday.
NOW = datetime.fromisoformat("2026-11-24T10:30:00-05:00")

Opener = Callable[[str], Awaitable[AgentConversation]]


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    """MiniLM, fetched once into the repository's own store."""
    fetch(ModelStore(root=STORE), "minilm-l6-v2", lambda _: None)
    return LocalEmbedder(SentenceEncoder(open_model(STORE, "minilm-l6-v2", ModelKind.EMBEDDING), threads=1))


@pytest.fixture(scope="session")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vectors")


@pytest.fixture
def open_tenant(embedder: Embedder, vectors: Path) -> Opener:
    """Opens the agent of an example tenant, on the morning of Tuesday, November 24."""

    async def open_one(tenant: str) -> AgentConversation:
        agent = load_agents(ROOT / "edge/tenants" / tenant)[0]
        return await AgentConversation.load(agent, embedder, cache=vectors, now=lambda: NOW)

    return open_one
