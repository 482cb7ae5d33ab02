"""The node agent on real servers: what comes down, what goes up, what happens when the way is cut or falls silent."""

import asyncio
import time
from math import nan
from pathlib import Path

import aiohttp
import pytest
from nats.aio.client import Client

from contract import uplink_pb2
from contract.alarms import AlarmCode
from contract.downlink_pb2 import NODE_STATE_DRAINING, Roster, RosterNode
from contract.streams import mirrors
from contract.uplink_pb2 import Rollup
from edge.sync.acks import AckOutbox
from edge.sync.connection import NatsLink
from edge.sync.leaf import LeafLink, LeafLinks
from edge.sync.lock import RegionLock
from edge.sync.settings import SlotsSection
from provisioning.identity.names import ServiceRole
from tests.edge.rollups.node_records import Call, NodeRecords
from tests.edge.sync.hub import REGION, SHOP, shop
from tests.edge.sync.played import agent, until, world
from tests.nats_network import ask, eventually


async def metric(port: int, name: str) -> float:
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            lines = (await answer.text()).splitlines()
    except aiohttp.ClientConnectorError:
        return nan
    found = (float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))
    return next(found, 0.0)


async def until_metric(port: int, name: str, value: float, *, within_s: float = 15.0) -> None:
    async def is_so() -> bool:
        return await metric(port, name) == value

    await eventually(is_so, within_s=within_s)


async def until_alarm(port: int, code: str, *, raised: bool, within_s: float = 10.0) -> None:
    async def is_so() -> bool:
        return await metric(port, f'borough_alarm{{code="{code}"}}') == float(raised)

    await eventually(is_so, within_s=within_s)


async def test_a_bundle_reaches_the_node_and_is_acked(tmp_path: Path) -> None:
    async with world(tmp_path) as w, agent(w.settings()):
        await w.hub.publish(w.hub.signing.bundle(1))
        ack = await w.hub.until_acked(1)
        assert ack.refusal == uplink_pb2.REFUSAL_UNSPECIFIED
        assert (tmp_path / "n/current" / SHOP / "tenant.yaml").is_file()
        await w.hub.publish(w.hub.signing.bundle(2, shop(lambda text: text.replace("greeting:", "greting:"))))
        assert (await w.hub.until_acked(2)).document_name == "shop-line"
        await until(
            lambda: w.hub.healths[-1].bundle_version == 1 and AlarmCode.CONFIG_REFUSED in w.hub.healths[-1].alarms
        )


async def test_a_node_says_that_it_is_cordoned_by_its_operator_or_by_the_roster(tmp_path: Path) -> None:
    """Within one period of health, and until it is not."""
    async with world(tmp_path) as w:
        settings = w.settings()
        own = tmp_path / "cordon"
        slots = SlotsSection(directory=tmp_path / "slots", capacity=2, cordon_file=own)
        async with agent(settings.model_copy(update={"slots": slots})):
            await until(lambda: bool(w.hub.healths) and not w.hub.healths[-1].is_cordoned)
            own.touch()
            await until(lambda: w.hub.healths[-1].is_cordoned)
            own.unlink()
            await until(lambda: not w.hub.healths[-1].is_cordoned)
            node = RosterNode(name=settings.node.name, address="10.0.0.1", state=NODE_STATE_DRAINING)
            await w.hub.publish(w.hub.signing.bundle(1, roster=Roster(region=REGION, nodes=[node])))
            await until(lambda: w.hub.healths[-1].is_cordoned and w.hub.healths[-1].bundle_version == 1)
            await w.hub.publish(w.hub.signing.bundle(2, roster=Roster(region=REGION)))
            await until(lambda: not w.hub.healths[-1].is_cordoned)


async def test_a_node_starts_with_hub_and_nats_gone_and_serves_what_is_on_disk(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settings = w.settings()
        async with agent(settings):
            await w.hub.publish(w.hub.signing.bundle(1))
            await w.hub.until_acked(1)
    async with agent(settings):
        await until((tmp_path / "n/current" / SHOP / "tenant.yaml").is_file)


async def test_acks_wait_on_disk_and_the_newest_arrives_when_the_link_is_back(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        (tmp_path / "n/acks").mkdir(parents=True)
        acks = AckOutbox(tmp_path / "n/acks", REGION, w.network.node(REGION).name)
        acks.bundle(7)
        acks.bundle(8)
        assert len(acks.waiting()) == 1
        w.proxy.fall_silent()
        async with agent(w.settings()):
            await until_alarm(w.agent_port, AlarmCode.HUB_UNREACHABLE, raised=True)
            assert len(acks.waiting()) == 1
            w.proxy.speak()
            await until(lambda: not acks.waiting(), within_s=20)
            await w.hub.until_acked(8)
        assert not [ack for ack in w.hub.acks if ack.version == 7]


async def test_rollups_wait_while_the_link_is_silent_and_every_call_is_counted_exactly_once(tmp_path: Path) -> None:
    """The agent is restarted while the link is silent; what it sent without an answer is sent again."""
    async with world(tmp_path) as w:
        settings = w.settings()
        records = NodeRecords(settings.records.directory)
        added = 0

        def add() -> None:
            nonlocal added
            added += 1
            records.add(Call(call_id=f"c{added}"))

        async with agent(settings):
            add()
            await until_metric(w.agent_port, "borough_rollups_sent_total", 1)
            # It is said once more to wait until the next look.
            await until_metric(w.agent_port, "borough_rollups_waiting", 0)
            add()
            w.proxy.fall_silent()
            await until_metric(w.agent_port, "borough_rollups_waiting", 1)
        add()
        async with agent(settings):
            await until_metric(w.agent_port, "borough_rollups_waiting", 2)
            add()
            w.proxy.speak()
            await until_metric(w.agent_port, "borough_rollups_sent_total", 3, within_s=30)
        rollups = await stored_rollups(w.hub.client)
        assert len({rollup.seq for rollup in rollups}) == len(rollups)
        assert sum(entry.calls.total for rollup in rollups for entry in rollup.entries) == added


async def stored_rollups(hub: Client) -> list[Rollup]:
    js = hub.jetstream()
    state = (await js.stream_info("ROLLUPS")).state
    messages = [await js.get_msg("ROLLUPS", seq) for seq in range(state.first_seq, state.last_seq + 1)]
    return [Rollup.FromString(message.data or b"") for message in messages]


async def test_a_silent_link_is_alarmed_within_seconds_and_healed_when_it_speaks(tmp_path: Path) -> None:
    async with world(tmp_path) as w, agent(w.settings()):
        await w.hub.publish(w.hub.signing.bundle(1))
        await w.hub.until_acked(1)
        port = w.agent_port
        started = time.monotonic()
        w.proxy.fall_silent()
        await until_alarm(port, AlarmCode.HUB_UNREACHABLE, raised=True)
        await until_alarm(port, AlarmCode.CONFIG_STALE, raised=True)
        assert time.monotonic() - started < 5
        w.proxy.speak()
        await until_alarm(port, AlarmCode.HUB_UNREACHABLE, raised=False, within_s=30)
        await until_alarm(port, AlarmCode.CONFIG_STALE, raised=False, within_s=30)
        await w.hub.publish(w.hub.signing.bundle(2))
        await w.hub.until_acked(2)


async def test_services_that_are_away_are_no_stalled_link(tmp_path: Path) -> None:
    async with world(tmp_path) as w, agent(w.settings()):
        await until_alarm(w.agent_port, AlarmCode.CONFIG_STALE, raised=False)
        w.hub.answers_pings = w.hub.is_beating = False
        await until_alarm(w.agent_port, AlarmCode.HUB_UNREACHABLE, raised=True)
        assert await metric(w.agent_port, 'borough_alarm{code="link_stalled"}') == 0.0
        w.hub.answers_pings = w.hub.is_beating = True
        await until_alarm(w.agent_port, AlarmCode.HUB_UNREACHABLE, raised=False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second healing does not wait for five seconds."""
    monkeypatch.setattr("edge.sync.agent._FIRST_HEAL_PAUSE_S", 1.0)


@pytest.mark.usefixtures("impatient")
async def test_a_mirror_that_was_lost_comes_back_with_its_past(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.hub.publish(w.hub.signing.bundle(1))
        async with agent(w.settings()):
            await w.hub.until_acked(1)
            region = await w.network.connect(w.network.node(REGION), ServiceRole.BORDER, prefix=None)
            await ask(region, mirrors(REGION)[0].delete_subject, {})
            await until_alarm(w.agent_port, AlarmCode.CONFIG_STALE, raised=True)
            await until_alarm(w.agent_port, AlarmCode.CONFIG_STALE, raised=False, within_s=20)
            await w.hub.publish(w.hub.signing.bundle(2))
            await w.hub.until_acked(2)


@pytest.mark.usefixtures("impatient")
async def test_a_mirror_that_stalled_is_made_anew(tmp_path: Path) -> None:
    """The hub's consumer is set far ahead: the link is fine, the mirror waits for messages that never come."""
    async with world(tmp_path) as w, agent(w.settings()):
        await w.hub.publish(w.hub.signing.bundle(1))
        await w.hub.until_acked(1)
        mirror = mirrors(REGION)[0]
        await ask(w.hub.client, f"$JS.API.CONSUMER.RESET.{mirror.name}.{mirror.consumer}", {"seq": 1_000_000})
        await until_alarm(w.agent_port, AlarmCode.CONFIG_STALE, raised=True)
        await w.hub.publish(w.hub.signing.bundle(2))
        await until_alarm(w.agent_port, AlarmCode.CONFIG_STALE, raised=False, within_s=40)
        await w.hub.until_acked(2)
        assert await metric(w.agent_port, 'borough_heals_total{step="mirror"}') >= 1


async def only_link(leafs: LeafLinks, *, other_than: int = -1) -> LeafLink:
    """The region's one link, once it is told: a busy server answers too late for one look."""
    found: list[LeafLink] = []

    async def is_told() -> bool:
        found[:] = await leafs.all()
        return [link.connection != other_than for link in found] == [True]

    await eventually(is_told)
    return found[0]


async def test_a_link_that_is_ended_is_made_anew_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settings = w.settings()
        system = NatsLink("system", settings.nats, settings.nats.system)
        leafs = LeafLinks(system)
        running = asyncio.create_task(system.run())
        await system.ready()
        before = await only_link(leafs)
        await leafs.kick(before)
        await only_link(leafs, other_than=before.connection)
        running.cancel()
        await asyncio.wait([running], timeout=5)


async def test_all_nodes_of_a_region_follow_its_bundles(tmp_path: Path) -> None:
    async with world(tmp_path, nodes=2) as w, agent(w.settings(1)), agent(w.settings(2)):
        await w.hub.publish(w.hub.signing.bundle(1))
        await until(lambda: {ack.node for ack in w.hub.acks if ack.version == 1} == {f"{REGION}-1", f"{REGION}-2"})
        await until(lambda: {health.node for health in w.hub.healths} == {f"{REGION}-1", f"{REGION}-2"})


async def test_a_lock_of_the_region_is_one_nodes_at_a_time(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settings = w.settings()
        link = NatsLink("agent", settings.nats, settings.nats.agent)
        running = asyncio.create_task(link.run())
        await link.ready()
        mine, others = RegionLock(link, "one", replicas=1), RegionLock(link, "two", replicas=1)
        for _ in range(3):
            async with mine.taken("link") as is_mine, others.taken("link") as is_theirs, others.taken("x") as is_other:
                assert (is_mine, is_theirs, is_other) == (True, False, True)
        running.cancel()
        await asyncio.wait([running], timeout=5)
        async with mine.taken("link") as is_mine:
            assert not is_mine
