"""Two nodes of a region, each with its ledger, on real servers: who rings back is counted once, whoever answers."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from nats.js.api import StreamInfo
from nats.js.errors import NotFoundError

from contract import subjects
from contract.uplink_pb2 import Capacity, Entry, Rollup
from edge.rollups.ledger import RollupLedger
from edge.rollups.recent import Sighting
from edge.sync import recent_callers
from edge.sync.alarms import Alarms
from edge.sync.connection import NATS_ERRORS, NatsLink
from edge.sync.metrics import SyncMetrics
from edge.sync.recent_callers import KEPT_S, RecentCallers
from edge.sync.rollups import CutSources, RollupShipping
from edge.sync.settings import HubSection, SlotsSection, SyncSettings
from edge.sync.uplink import Uplink
from provisioning.identity.names import ServiceRole
from tests.edge.rollups.node_records import Call, NodeRecords
from tests.edge.sync.hub import REGION
from tests.edge.sync.played import World, agent, settings_of, until, world
from tests.nats_network import Network, eventually, nats_network

ANNA, BEN = "a" * 32, "b" * 32
TENANT = "acme"
# Most of it is a cluster's start.
pytestmark = pytest.mark.timeout(120)


@dataclass
class Ringing:
    """One node: its records, its ledger, its connection into the region."""

    records: NodeRecords
    link: NatsLink
    callers: RecentCallers
    ledger: RollupLedger
    shipping: RollupShipping

    async def cut(self) -> None:
        await self.shipping.cut_once(CutSources(records=self.records.directory, region=self.callers, capacity=Capacity))

    @property
    def repeated(self) -> int:
        totals = self.ledger.totals(is_confirmed=False)
        return totals[TENANT].repeated if totals else 0

    async def stream(self) -> StreamInfo:
        js = self.link.client.jetstream()
        return await js.stream_info(subjects.key_value_stream(subjects.RECENT_CALLERS_BUCKET))


@asynccontextmanager
async def ringing(network: Network, root: Path, number: int) -> AsyncIterator[Ringing]:
    settings = settings_of(network, root, number, hub=HubSection(trusted_keys=(root,)))
    node, metrics = settings.node, SyncMetrics.create()
    link = NatsLink("agent", settings.nats, settings.nats.agent)
    callers = RecentCallers(link, replicas=network.deployment.topology.region(REGION).replicas)
    ledger = RollupLedger(root / f"{node.name}.db", node.region, node.name)
    shipping = RollupShipping(
        ledger,
        Uplink(link, node.region, node.name),
        subject=subjects.rollup(node.region, node.name),
        settings=settings.rollups,
        node_alarms=Alarms(metrics.registry),
        metrics=metrics,
    )
    with ledger:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(link.run(), name="link")
            await until(lambda: link.is_up)
            yield Ringing(NodeRecords(root / f"calls-{node.name}"), link, callers, ledger, shipping)
            running.cancel()


@asynccontextmanager
async def two_nodes(root: Path) -> AsyncIterator[tuple[Network, Ringing, Ringing]]:
    async with nats_network(root / "nats", {REGION: 2}) as network, AsyncExitStack() as stack:
        a, b = [await stack.enter_async_context(ringing(network, root, number)) for number in (1, 2)]
        # A cluster takes requests once it has elected its leader.
        await eventually(partial(is_told, a, "warm-up", "0" * 32), within_s=60)
        yield network, a, b


async def is_told(node: Ringing, call_id: str, subject: str) -> bool:
    return bool(await node.callers.tell([seen(call_id, subject=subject)]))


def ago(minutes: float) -> int:
    return round((time.time() - 60 * minutes) * 1000)


def a_call(call_id: str, minutes_ago: float, *, subject: str = ANNA, transport: str = "sip") -> Call:
    return Call(call_id=call_id, subject=subject, started_ms=ago(minutes_ago), duration_ms=30_000, transport=transport)


def seen(call_id: str, minutes_ago: float = 1, *, subject: str = ANNA) -> Sighting:
    return Sighting(tenant=TENANT, subject_id=subject, call_id=call_id, started_ms=ago(minutes_ago))


async def test_who_rings_back_is_counted_once_whichever_node_cuts_first(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (_, a, b):
        a.records.add(a_call("a-1", 60))
        await a.cut()
        b.records.add(a_call("b-1", 50))
        await b.cut()
        assert (a.repeated, b.repeated) == (0, 1)

        # The node that answered first cuts last.
        a.records.add(a_call("a-2", 60, subject=BEN))
        b.records.add(a_call("b-2", 50, subject=BEN))
        await b.cut()
        await a.cut()
        assert (a.repeated, b.repeated) == (1, 1)

        # Another tenant is none of theirs, and more than a day is none at all.
        b.records.add(Call(call_id="b-3", tenant="other", subject=ANNA, started_ms=ago(40)))
        a.records.add(Call(call_id="a-3", subject="c" * 32, started_ms=ago(25 * 60)))
        b.records.add(a_call("b-4", 30, subject="c" * 32))
        await asyncio.gather(a.cut(), b.cut())
        assert (a.repeated, b.repeated) == (1, 1)


async def test_nodes_that_cut_at_once_never_both_miss_nor_both_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the region answers, however late: who cannot tell in time counts what it knows, as below."""
    monkeypatch.setattr(recent_callers, "REQUEST_WITHIN_S", 20.0)
    monkeypatch.setattr(recent_callers, "WITHIN_S", 60.0)
    callers = [f"{number:032x}" for number in range(1, 301)]
    async with two_nodes(tmp_path) as (_, a, b):

        def fill() -> None:
            for index, subject in enumerate(callers):
                a.records.add(a_call(f"a-{index}", 60, subject=subject))
                b.records.add(a_call(f"b-{index}", 50, subject=subject))

        # Not on the event loop: a connection that answers no ping for six seconds is ended by its server.
        await asyncio.to_thread(fill)
        await asyncio.gather(a.cut(), b.cut())
        assert a.repeated + b.repeated == len(callers)
        info = await a.stream()
        assert (info.state.messages, info.config.max_age) == (len(callers) + 1, KEPT_S)


async def test_a_cut_that_died_before_it_was_written_gives_the_same_answers_again(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (network, a, b):
        a.records.add(a_call("a-1", 60), a_call("a-2", 50))
        batch = await asyncio.to_thread(a.ledger.read, a.records.directory, time.time())
        told = await a.callers.tell(batch.sightings)
        assert told == {"a-1": False, "a-2": True}
        b.records.add(a_call("b-1", 40))
        await b.cut()

        # Servers and ledger come again; nothing of the dead cut is on the node's disk.
        for name in ("in-south-1", "in-south-2"):
            os.kill(network.services[name].pid, signal.SIGKILL)
        await until(lambda: not (a.link.is_up or b.link.is_up))
        await until(lambda: a.link.is_up and b.link.is_up, within_s=20)
        await eventually(partial(is_told, a, "a-3", BEN), within_s=30)
        assert await a.callers.tell(batch.sightings) == told
        await a.cut()
        await a.cut()
        assert (a.repeated, b.repeated) == (1, 1)
        rollups = [Rollup.FromString(body) for _, body in a.ledger.waiting()]
        assert sum(entry.calls.total for rollup in rollups for entry in rollup.entries) == 2


async def test_without_nats_a_node_counts_what_it_knows_and_tells_later(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (network, a, b):
        b.records.add(a_call("b-1", 70, subject=BEN))
        await b.cut()
        a.records.add(a_call("a-1", 60), a_call("a-2", 50), a_call("a-3", 40, subject=BEN))
        server = network.services["in-south-1"].pid
        os.kill(server, signal.SIGSTOP)
        try:
            began = time.monotonic()
            await a.cut()
            took_s = time.monotonic() - began
        finally:
            os.kill(server, signal.SIGCONT)
        assert took_s < 5
        assert a.repeated == 1

        await until(lambda: a.link.is_up and b.link.is_up, within_s=20)
        b.records.add(a_call("b-2", 30))
        await eventually(partial(is_told, b, "b-0", "d" * 32), within_s=30)
        # What was counted stays as it was counted; whoever comes next is compared with it.
        await a.cut()
        await b.cut()
        assert (a.repeated, b.repeated) == (1, 1)


async def test_a_link_that_was_never_up_keeps_nobody_waiting(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (network, a, _):
        settings = settings_of(network, tmp_path, 1, hub=HubSection(trusted_keys=(tmp_path,)))
        away = RecentCallers(NatsLink("agent", settings.nats, settings.nats.agent), replicas=1)
        assert await away.tell([seen("a-1")]) == {}
        with pytest.raises(NATS_ERRORS):
            await away.forget(TENANT, ANNA)
        assert await a.callers.tell([]) == {}


async def test_nothing_is_left_of_a_subject_that_is_forgotten(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (_, a, b):
        before = (await a.stream()).state.messages
        await a.callers.tell([seen("a-1"), seen("a-2", subject=BEN)])
        await b.callers.forget(TENANT, ANNA)
        await b.callers.forget(TENANT, ANNA)
        assert (await a.stream()).state.messages == before + 1
        assert await b.callers.tell([seen("b-1"), seen("b-2", subject=BEN)]) == {"b-1": False, "b-2": True}


async def test_callers_without_a_number_are_not_told_of(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as (_, a, _):
        before = (await a.stream()).state.messages
        a.records.add(a_call("a-1", 60, subject="e" * 32, transport="webrtc"))
        await a.cut()
        assert (await a.stream()).state.messages == before


async def test_the_hub_hears_of_repeats_between_nodes_and_of_refused_calls(tmp_path: Path) -> None:
    async with world(tmp_path, nodes=2) as w:
        first, second = w.settings(1), w.settings(2)
        slots = SlotsSection(directory=tmp_path / "slots", capacity=4)
        running = first.sync.directory / "running"
        async with agent(first.model_copy(update={"slots": slots})), agent(second):
            await until(lambda: len({health.node for health in w.hub.healths}) == 2, within_s=20)
            state = {"bundle": 1, "began_at_ns": time.time_ns(), "calls_refused": 3}
            (running / "calls-1.json").write_text(json.dumps(state), encoding="utf-8")
            NodeRecords(first.records.directory).add(a_call("a-1", 60))
            assert [entry.calls.repeated for entry in await counted(w, first)] == [0]
            await told_of(w, 1)
            NodeRecords(second.records.directory).add(a_call("b-1", 50))
            assert [entry.calls.repeated for entry in await counted(w, second)] == [1]
            js = w.hub.client.jetstream()
            refused = 0
            for seq in range(1, (await js.stream_info(subjects.ROLLUP_STREAM)).state.messages + 1):
                refused += Rollup.FromString(
                    (await js.get_msg(subjects.ROLLUP_STREAM, seq)).data or b""
                ).capacity.refused
            assert refused == 3


async def told_of(w: World, callers: int) -> None:
    """Returns once the region has heard of so many callers: a cluster takes its time to elect a leader."""
    js = (await w.network.connect(w.network.node(REGION), ServiceRole.AGENT)).jetstream()
    stream = subjects.key_value_stream(subjects.RECENT_CALLERS_BUCKET)
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(*NATS_ERRORS):
                if (await js.stream_info(stream)).state.messages == callers:
                    return
            await asyncio.sleep(0.1)


async def counted(w: World, settings: SyncSettings) -> list[Entry]:
    """The entries with calls of the newest rollup of a node that has any."""
    subject = subjects.rollup(settings.node.region, settings.node.name)
    async with asyncio.timeout(20):
        while True:
            with contextlib.suppress(NotFoundError):
                message = await w.hub.client.jetstream().get_last_msg(subjects.ROLLUP_STREAM, subject)
                entries = [entry for entry in Rollup.FromString(message.data or b"").entries if entry.calls.total]
                if entries:
                    return entries
            await asyncio.sleep(0.1)
