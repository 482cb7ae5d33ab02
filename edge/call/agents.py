"""From a tenant's folder to the agents that answer its calls."""

import asyncio
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import structlog

from edge.call.farewell import FAREWELL
from edge.call.ports import Embedder, Generator
from edge.call.roster import ServedAgent
from edge.conversation.agent import Agent
from edge.conversation.conversation import AgentConversation
from edge.conversation.documents import load_agents
from edge.conversation.tools import Toolbox
from edge.knowledge.shelf import KnowledgeShelf
from edge.speech.prepared import PreparedAudio

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentLoader:
    """Loads tenants with what all agents of a worker share.

    `vectors` is the cache of text vectors; `shelf` the knowledge from the hub, None where knowledge is files beside
    the documents.
    """

    embedder: Embedder
    generator: Generator
    webhooks: aiohttp.ClientSession
    vectors: Path
    shelf: KnowledgeShelf | None = None

    async def load(self, directory: Path, *, version: str) -> tuple[ServedAgent, ...]:
        """Load the agents of one tenant. Raises DocumentsInvalidError, KnowledgeError and what the embedder raises."""
        # Parsing takes a tenth of a second, and calls are running.
        agents = await asyncio.to_thread(load_agents, directory, has_replica=self.shelf is not None)
        return tuple([await self._serve(agent, version) for agent in agents])

    async def _serve(self, agent: Agent, version: str) -> ServedAgent:
        conversation = await AgentConversation.load(
            agent, self.embedder, cache=self.vectors, shelf=self.shelf, generator=self.generator
        )
        log.info("agent_loaded", tenant=agent.tenant, agent=agent.name, version=version)
        return ServedAgent(conversation=conversation, tools=Toolbox.of(agent, self.webhooks), version=version)


async def prepare_audio(agents: Iterable[ServedAgent], audio: PreparedAudio) -> int:
    """Make the clips of what these agents often say; returns how many were made. Raises as Synthesizer does."""
    made = 0
    for served in agents:
        agent = served.conversation.agent
        texts = (*served.conversation.fixed_texts(), FAREWELL)
        made += await audio.prepare(texts, voice=agent.voice, tenant=agent.tenant)
    return made


def tenant_folders(directory: Path) -> list[Path]:
    """One folder a tenant."""
    return sorted(path for path in directory.iterdir() if path.is_dir())


def digest_of(directory: Path) -> str:
    """Digest of a tenant's documents and knowledge files: a call's record names what answered it."""
    digest = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(directory).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
