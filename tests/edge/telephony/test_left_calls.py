"""A call worker that is stopped, or fails, leaves its calls to a sibling; the last one lets them go with a word. Real
workers, real Asterisk, real voices."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge.call.ports import MediaLeg
from edge.conversation.dialogue import CallOutcome
from edge.exit_status import OPERATOR_NEEDED
from edge.records.database import DatabaseSettings, database_path, open_reader
from edge.records.errors import RecordsError
from edge.records.model import CallRecord
from edge.records.presence import FOLDER
from edge.records.store import CallReader
from edge.telephony.ari import AriClient
from provisioning.models.fetching import fetch
from provisioning.models.store import ModelStore
from tests.asterisk_pair import AsteriskPair
from tests.e2e.watched_call import holder_of
from tests.edge.call.test_reload import SHOP, SHOP_NUMBER, TENANTS
from tests.edge.inference.conftest import ROOT, STORE, Service
from tests.edge.telephony.carrier_caller import Caller, Carrier
from tests.edge.telephony.test_calls import hear

pytestmark = pytest.mark.asyncio(loop_scope="module")
# The first time, everything the shop says is synthesised.
WITHIN_S = 240.0
VOICE, VECTORS, VAD = "en_US-joe-medium", "minilm-l6-v2", "silero-vad"
MODELS = f'[[tts]]\nmodel = "{VOICE}"\n[embedding]\nmodel = "{VECTORS}"\n'
# What takes long to make is the checkout's: clips of everything the shop says, vectors of what it knows.
STATE = ROOT / ".state"


@dataclass(frozen=True, slots=True)
class Node:
    """A folder, an Asterisk and an inference service that workers share."""

    folder: Path
    pair: AsteriskPair
    inference: Path

    def settings(self, name: str) -> Path:
        path, ari = self.folder / f"{name}.toml", self.pair.node.settings
        (self.folder / "ari").write_text(ari.ari.password)
        (self.folder / "subjects").write_bytes(bytes(32))
        path.write_text(
            f'[worker]\nname = "{name}"\ndrain_s = 0.5\n[inference]\nsocket = "{self.inference}"\n'
            f'[slots]\ndirectory = "{self.folder}/slots"\ncapacity = 2\n'
            f'[records]\ndirectory = "{self.folder}/records"\nsubject_key_file = "{self.folder}/subjects"\n'
            f'[speech]\nprepared = "{STATE}/prepared"\nvectors = "{STATE}/vectors"\n'
            f'[models]\nvad = "{STORE}/{VAD}"\n[web]\nport = 0\n[tenants]\ndirectory = "{self.folder}/tenants"\n'
            f'[asterisk]\nurl = "{ari.ari_url.removesuffix("/ari")}"\nuser = "{ari.ari.user}"\n'
            f'password_file = "{self.folder}/ari"\n'
        )
        return path

    @property
    def owner(self) -> int:
        """The process that has the call: it holds the lock of the call's run."""
        database = database_path(self.folder / "records", SHOP)
        with contextlib.closing(open_reader(database, DatabaseSettings())) as connection:
            run = connection.execute("SELECT worker FROM calls").get
        return holder_of(self.folder / "records" / FOLDER / str(run))

    @property
    def record(self) -> CallRecord | None:
        try:
            (call,) = CallReader(self.folder / "records", SHOP, DatabaseSettings()).recent_calls(10)
        except (RecordsError, ValueError):  # the first call is about to make its tables
            return None
        return call


class Worker:
    """`python -m edge.call.worker`, and what it said."""

    def __init__(self, node: Node, name: str) -> None:
        self.name, self.log = name, node.folder / f"{name}.log"
        command = [sys.executable, "-m", "edge.call.worker", "--config", str(node.settings(name))]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=ROOT)

    async def said(self, event: str) -> None:
        while f'"event": "{event}"' not in self.log.read_text():
            await asyncio.sleep(0.05)

    async def stopped(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.ended()

    async def ended(self) -> int:
        return await asyncio.to_thread(self.process.wait, WITHIN_S)


@pytest.fixture(scope="module")
def inference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    for name in (VOICE, VECTORS, VAD):
        fetch(ModelStore(root=STORE), name, lambda _: None)
    service = Service(tmp_path_factory.mktemp("inference"), MODELS)
    service.start()
    yield service
    assert service.stop() == 0, service.log.read_text()


@pytest.fixture
def node(tmp_path: Path, pair: AsteriskPair, inference: Service) -> Node:
    shutil.copytree(TENANTS / SHOP, tmp_path / "tenants" / SHOP)
    return Node(tmp_path, pair, inference.socket)


@contextlib.contextmanager
def working(node: Node) -> Iterator[list[Worker]]:
    workers = [Worker(node, name) for name in ("calls-0", "calls-1")]
    try:
        yield workers
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait(WITHIN_S)


@asynccontextmanager
async def connected(
    node: Node, carrier: Carrier, first: Worker, second: Worker
) -> AsyncIterator[tuple[Caller, MediaLeg, Worker, Worker]]:
    """A caller who hears the agent, which worker has the call, and which would go on with it."""
    for worker in (first, second):
        await worker.said("worker_ready")
        await worker.said("sibling_met")
    async with carrier.ring(SHOP_NUMBER) as caller, carrier.talk(caller) as theirs:
        await hear(theirs.leg, loud=True)
        while node.record is None:
            await asyncio.sleep(0.05)
        is_first = node.owner == first.process.pid
        yield caller, theirs.leg, first if is_first else second, second if is_first else first


async def test_a_sibling_goes_on_with_what_a_stop_cuts_off(node: Node, carrier: Carrier) -> None:
    with working(node) as (first, second):
        async with asyncio.timeout(WITHIN_S), connected(node, carrier, first, second) as (caller, leg, owner, other):
            assert await owner.stopped() == 0, owner.log.read_text()
            await other.said("call_adopted")
            await hear(leg, loud=False)
            await hear(leg, loud=True)
            assert not caller.watch.is_gone
            assert await other.stopped() == 0, other.log.read_text()
            await caller.watch.wait_until(lambda: caller.watch.is_gone)
    record = node.record
    assert record is not None
    assert (record.outcome, record.reason) == (CallOutcome.FAILED, "node_stopped")


async def test_a_worker_that_fails_hangs_nobody_up(node: Node, carrier: Carrier, node_client: AriClient) -> None:
    """Somebody takes the name of its Stasis app: it cannot go on, and its caller can."""
    with working(node) as (first, second):
        async with asyncio.timeout(WITHIN_S), connected(node, carrier, first, second) as (caller, leg, owner, other):
            async with node_client.events(owner.name):
                assert await owner.ended() == OPERATOR_NEEDED
            await owner.said("worker_failed")
            assert "StasisAppReplacedError" in owner.log.read_text()
            await other.said("call_adopted")
            await hear(leg, loud=False)
            await hear(leg, loud=True)
            assert not caller.watch.is_gone
