"""A worker follows the bundles of its node: real documents, real inotify, a sync folder as the node agent leaves it."""

import asyncio
import gc
import json
import shutil
import weakref
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.call.agents import AgentLoader, prepare_audio
from edge.call.errors import UnknownNumberError
from edge.call.ports import ChatMessage, Purpose
from edge.call.reception import NO_CAPACITY, refused_for_want_of_a_slot
from edge.call.reload import BundleFollower
from edge.call.roster import Roster, ServedAgent, ServedRoster
from edge.inference.errors import InferenceUnavailableError
from edge.knowledge.replica import link_path
from edge.knowledge.shelf import KnowledgeShelf
from edge.observability.metrics import CallMetrics
from edge.speech.prepared import PreparedAudio
from tests.edge.call.talk import WordsAsAudio

TENANTS = Path(__file__).parents[3] / "edge/tenants"
BANK, SHOP = "harbour-bank", "volt-electronics"
SHOP_NUMBER = "+15550200"
WITHIN_S = 15.0


class HashedVectors:
    """A unit vector for each text, the same each time."""

    is_away = False

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> NDArray[np.float32]:
        if self.is_away:
            raise InferenceUnavailableError("the service is not there")
        vectors = np.stack([np.random.default_rng(zlib.crc32(text.encode())).normal(size=384) for text in texts])
        unit: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        return unit

    async def generate(
        self, system: str, messages: Sequence[ChatMessage], purpose: Purpose, *, max_tokens: int
    ) -> AsyncIterator[str]:
        yield "nothing"


@dataclass
class CountingLoader:
    """The real loader, and which tenants it was asked for."""

    inner: AgentLoader
    asked: list[str] = field(default_factory=list)

    async def load(self, directory: Path, *, version: str) -> tuple[ServedAgent, ...]:
        self.asked.append(directory.name)
        return await self.inner.load(directory, version=version)


@dataclass
class Worker:
    directory: Path
    roster: ServedRoster
    models: HashedVectors
    loader: CountingLoader = field(init=False)
    metrics: CallMetrics = field(default_factory=CallMetrics.create)
    shelf: KnowledgeShelf | None = None

    def running(self) -> dict[str, object]:
        state = json.loads((self.directory / "running/calls-1.json").read_text(encoding="utf-8"))
        assert isinstance(state, dict)
        return state

    def publish(self, version: int, *tenants: str, edit: Callable[[str], str] = str) -> None:
        """Do what the node agent does: unpack, then swap the link."""
        bundle = self.directory / "bundles" / str(version)
        for tenant in tenants:
            shutil.copytree(TENANTS / tenant, bundle / tenant)
        for path in bundle.rglob("agent.yaml"):
            path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")
        (self.directory / "next").symlink_to(f"bundles/{version}")
        (self.directory / "next").replace(self.directory / "current")

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                await asyncio.sleep(0.02)

    async def until_running(self, version: int) -> None:
        await self.until(lambda: self.running()["bundle"] == version)


def new_greeting(text: str) -> str:
    return text.replace("Volt Electronics. What can I do for you?", "Volt Electronics. How may I help?")


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    models = HashedVectors()
    directory = tmp_path / "sync"
    directory.mkdir()
    return Worker(directory=directory, roster=ServedRoster(), models=models)


@asynccontextmanager
async def following(worker: Worker) -> AsyncIterator[None]:
    audio = PreparedAudio(worker.directory.parent / "audio", WordsAsAudio(), model="m")
    async with aiohttp.ClientSession() as webhooks, asyncio.TaskGroup() as tasks:
        loader = AgentLoader(
            embedder=worker.models,
            generator=worker.models,
            webhooks=webhooks,
            vectors=worker.directory.parent / "vectors",
            shelf=worker.shelf,
        )
        worker.loader = CountingLoader(loader)
        follower = BundleFollower(
            worker.directory,
            "calls-1",
            loader=worker.loader,
            roster=worker.roster,
            prepare=lambda roster: prepare_audio(roster.agents, audio),
            calls_refused=lambda: refused_for_want_of_a_slot(worker.metrics),
        )
        async with follower.following(tasks):
            yield


async def test_a_worker_without_any_bundle_refuses_calls_until_the_first_comes(worker: Worker) -> None:
    async with following(worker):
        assert worker.running()["bundle"] == 0
        with pytest.raises(UnknownNumberError):
            worker.roster.current.by_number(SHOP_NUMBER)
        worker.publish(1, SHOP)
        await worker.until_running(1)
        assert worker.roster.current.by_number(SHOP_NUMBER).conversation.agent.tenant == SHOP


async def test_calls_refused_for_want_of_a_slot_are_told_within_a_second(worker: Worker) -> None:
    worker.publish(1, SHOP)
    async with following(worker):
        began = worker.running()["began_at_ns"]
        worker.metrics.calls_refused.labels(reason="unknown_number").inc()
        worker.metrics.calls_refused.labels(reason=NO_CAPACITY).inc(2)
        await worker.until(lambda: worker.running()["calls_refused"] == 2)
        worker.publish(2, SHOP)
        await worker.until_running(2)
        assert (worker.running()["calls_refused"], worker.running()["began_at_ns"]) == (2, began)


async def test_only_the_changed_tenant_is_loaded_again_and_versions_name_the_bundle(worker: Worker) -> None:
    worker.publish(7, BANK, SHOP)
    async with following(worker):
        before = worker.roster.current.by_number(SHOP_NUMBER)
        assert worker.loader.asked == [BANK, SHOP]
        worker.publish(8, BANK, SHOP, edit=new_greeting)
        await worker.until_running(8)
        after = worker.roster.current.by_number(SHOP_NUMBER)
        assert worker.loader.asked == [BANK, SHOP, SHOP]
        assert before.version.startswith("7-")
        assert before.conversation.agent.greeting.endswith("What can I do for you?")
        assert after.version.startswith("8-")
        assert after.conversation.agent.greeting.endswith("How may I help?")
        bank = next(agent for agent in worker.roster.current.agents if agent.conversation.agent.tenant == BANK)
        assert bank.version.startswith("8-")


async def test_a_tenant_that_leaves_the_region_is_freed_once_no_call_uses_it(worker: Worker) -> None:
    worker.publish(1, BANK, SHOP)
    async with following(worker):
        call: ServedAgent | None = worker.roster.current.by_number(SHOP_NUMBER)
        assert call is not None
        conversation = weakref.ref(call.conversation)
        worker.publish(2, BANK)
        await worker.until_running(2)
        with pytest.raises(UnknownNumberError):
            worker.roster.current.by_number(SHOP_NUMBER)
        assert conversation() is not None
        call = None
        # The audio of the roster before may still be in the making.
        await worker.until(lambda: bool(worker.running()["is_audio_prepared"]))
        await worker.until(lambda: gc.collect() >= 0 and conversation() is None)


async def test_a_bundle_with_a_wrong_document_is_refused_by_name_and_the_last_good_one_runs_on(worker: Worker) -> None:
    worker.publish(1, SHOP)
    async with following(worker):
        worker.publish(2, SHOP, edit=lambda text: text.replace("greeting:", "greting:"))
        await worker.until(lambda: worker.running()["refused"] is not None)
        refused = {"bundle": 2, "code": "conversation.documents_invalid", "tenant": SHOP}
        assert worker.running()["refused"] == refused
        assert worker.running()["bundle"] == 1
        assert worker.roster.current.by_number(SHOP_NUMBER).version.startswith("1-")
        worker.publish(3, SHOP, edit=new_greeting)
        await worker.until_running(3)
        assert worker.running()["refused"] is None


async def test_a_bundle_waits_for_the_models_and_is_not_refused_for_them(worker: Worker) -> None:
    worker.publish(1, SHOP)
    async with following(worker):
        worker.models.is_away = True
        worker.publish(2, SHOP, edit=new_greeting)
        await worker.until(lambda: worker.loader.asked.count(SHOP) >= 2)
        assert worker.running()["refused"] is None
        worker.models.is_away = False
        await worker.until_running(2)


async def test_a_tenant_whose_knowledge_cannot_be_opened_is_tried_again_and_nobody_waits_for_it(worker: Worker) -> None:
    knowledge = worker.directory / "knowledge"
    knowledge.mkdir()
    worker.shelf = KnowledgeShelf(knowledge)
    damaged = link_path(knowledge, SHOP)
    damaged.write_bytes(b"no database" * 1000)
    worker.publish(1, BANK, SHOP)
    async with following(worker):
        assert (worker.running()["bundle"], worker.running()["missing"]) == (0, [SHOP])
        assert {served.conversation.agent.tenant for served in worker.roster.current.agents} == {BANK}
        await worker.until(lambda: worker.loader.asked.count(SHOP) >= 2)
        damaged.unlink()
        await worker.until_running(1)
        assert worker.running()["missing"] == []
        assert worker.loader.asked.count(BANK) == 1
        before = worker.roster.current.by_number(SHOP_NUMBER)
        damaged.write_bytes(b"no database" * 1000)
        worker.publish(2, BANK, SHOP, edit=new_greeting)
        await worker.until(lambda: worker.running()["missing"] == [SHOP])
        assert worker.running()["bundle"] == 1
        assert worker.roster.current.by_number(SHOP_NUMBER).conversation is before.conversation
        damaged.unlink()
        await worker.until_running(2)
        assert worker.roster.current.by_number(SHOP_NUMBER).version.startswith("2-")


async def test_new_texts_get_their_audio_after_the_swap(worker: Worker) -> None:
    worker.publish(1, SHOP)
    async with following(worker):
        await worker.until(lambda: bool(worker.running()["is_audio_prepared"]))
        clips = len(list((worker.directory.parent / "audio").glob("*.pcm")))
        worker.publish(2, SHOP, edit=new_greeting)
        await worker.until_running(2)
        await worker.until(lambda: bool(worker.running()["is_audio_prepared"]))
        assert len(list((worker.directory.parent / "audio").glob("*.pcm"))) == clips + 1


async def test_watchers_see_each_roster(worker: Worker) -> None:
    seen: list[int] = []
    worker.roster.watch(lambda roster: seen.append(len(roster.agents)))
    worker.roster.swap(Roster())
    worker.publish(1, SHOP)
    async with following(worker):
        assert seen == [0, 0, 1]
    assert not (worker.directory / "running/calls-1.json").exists()
