"""Call workers of several nodes of a region, as far as they talk with it, on a real nats-server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from edge.call import owner, region_ring_backs
from edge.call.region import Region, join, taking_part
from edge.call.ring_back import Claimed, Unclaimed, Wanted
from edge.call.saved_call import SavedCall
from edge.call.settings import RecordsSection, SessionsSection
from edge.inference.client_settings import SiblingSection
from edge.observability.metrics import CallMetrics
from edge.records.model import Record
from edge.records.subjects import SubjectId, name_subject
from edge.sync.connection import NatsLink
from edge.sync.sessions_bucket import SessionsBucket
from edge.sync.settings import NatsSection
from tests.edge.call.test_resumption import REPLYING, SAVED

SUBJECT_KEY = bytes(range(32))
NUMBER = "+15550123"
ANNA = name_subject(NUMBER, SUBJECT_KEY)
TENANT, AGENT = "acme", "front-desk"
WINDOW_S = 60.0
WITHIN_S = 10.0
Access = SessionsSection


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's machine may be slow, and its server says at once that nobody is there."""
    monkeypatch.setattr(owner, "ASK_EVERY_S", 0.02)
    monkeypatch.setattr(owner, "ASK_WITHIN_S", 0.6)
    monkeypatch.setattr(region_ring_backs, "LOOK_WITHIN_S", 0.6)
    monkeypatch.setattr(region_ring_backs, "BEFORE_ANSWER_S", WITHIN_S)


def a_call(call_id: str, *, subject_id: SubjectId = ANNA) -> SavedCall:
    """A call in which the caller was just told the time."""
    return replace(SAVED, call_id=call_id, tenant=TENANT, agent=AGENT, subject_id=subject_id, turn=REPLYING, next_seq=3)


def wanted(call_id: str, *, subject_id: SubjectId = ANNA, window_s: float = WINDOW_S) -> Wanted:
    return Wanted(call_id=call_id, tenant=TENANT, agent=AGENT, subject_id=subject_id, window_s=window_s)


@dataclass
class Worker:
    """One worker of one node."""

    region: Region
    metrics: CallMetrics
    tasks: asyncio.TaskGroup
    kept: list[Record] = field(default_factory=list)

    def says(self, call: SavedCall, *, window_s: float = WINDOW_S) -> None:
        self.region.sessions.keep(call, window_s=window_s)

    async def told(self) -> None:
        """Return once the region knows all that was said."""
        await self.region.sessions.flush(WITHIN_S)
        assert self.failures("shutdown") == 0

    async def rung_by(self, call: Wanted) -> Claimed | None:
        found = await self.region.ring_backs.take_up(call)
        assert not isinstance(found, Unclaimed)
        return found

    def failures(self, reason: str) -> int:
        return int(self.metrics.sessions_failed.labels(reason=reason)._value.get())

    def results(self, result: str) -> int:
        return int(self.metrics.ring_backs.labels(result=result)._value.get())


def access_to(url: str, node: str) -> Access:
    return SessionsSection(node=f"node-{node}", urls=(url,))


def subject_key_file(root: Path) -> Path:
    """The region's secret, as every node has it."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "subjects").write_bytes(SUBJECT_KEY)
    return root / "subjects"


@asynccontextmanager
async def working(
    root: Path, access: Access, *, run: str, siblings: SiblingSection | None = None
) -> AsyncIterator[Worker]:
    """A worker that is connected; it is gone after the block, as if its machine had lost power.

    Without `siblings` nothing but NATS tells whether another node lives.
    """
    await _listening(access.urls[0])
    records = RecordsSection(directory=root / "records", subject_key_file=subject_key_file(root))
    metrics, kept = CallMetrics.create(), list[Record]()
    region = join(access, records, run, metrics=metrics, keep=kept.append, siblings=siblings)
    assert region is not None
    async with taking_part(region), asyncio.TaskGroup() as tasks:
        async with asyncio.timeout(WITHIN_S):
            await region.link.ready()
            await region.link.client.flush()
        yield Worker(region=region, metrics=metrics, tasks=tasks, kept=kept)


@asynccontextmanager
async def agent_bucket(url: str) -> AsyncIterator[SessionsBucket]:
    """What the node agent does: the bucket is there, and a subject can be taken out of it."""
    await _listening(url)
    link = NatsLink("agent", NatsSection(urls=(url,)), None)
    async with asyncio.TaskGroup() as tasks:
        connecting = tasks.create_task(link.run())
        async with asyncio.timeout(WITHIN_S):
            await link.ready()
        bucket = SessionsBucket(link, replicas=1)
        await bucket.ensure()
        yield bucket
        while not connecting.done():
            connecting.cancel()
            await asyncio.wait([connecting], timeout=0.2)


async def _listening(url: str) -> None:
    """Return once the server takes connections; who comes earlier waits a second."""
    host, port = url.rpartition("/")[2].split(":")
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


async def values(worker: Worker) -> Sequence[bytes]:
    """What the bucket holds of Anna's calls."""
    found = await worker.region.ring_backs.store.all_of(TENANT, ANNA, within_s=2.0)
    return [each.value for each in found]
