"""Knowledge on its way from the hub's streams to the node's replica, on real servers."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from contract import subjects, uplink_pb2
from contract.alarms import AlarmCode
from contract.downlink_pb2 import KnowledgeManifest, KnowledgeMessage, RemovalContent
from contract.uplink_pb2 import Ack, Refusal
from edge.knowledge.replica import KnowledgeReplica
from edge.sync.errors import RefusedError
from edge.sync.knowledge import Held, Step, chain
from provisioning.identity.names import ServiceRole
from tests.edge.knowledge.snapshots import TENANT, an_item, make_delta, make_snapshot
from tests.edge.sync.hub import REGION, SigningHub
from tests.edge.sync.played import PlayedHub, World, agent, until, world
from tests.edge.sync.test_agent import metric

SNAPSHOTS = subjects.object_stream(subjects.snapshot_bucket(REGION))
ITEMS = [an_item("amber"), an_item("brass")]


@dataclass
class Publisher:
    """Publishes a tenant's knowledge as the hub does."""

    hub: PlayedHub
    root: Path
    acks: list[Ack] = field(default_factory=list)

    async def send(
        self, manifest: KnowledgeManifest, content: bytes = b"", *, signing: SigningHub | None = None
    ) -> None:
        signed = (signing or self.hub.signing).sign(manifest.SerializeToString())
        message = KnowledgeMessage(manifest=signed, content=content).SerializeToString()
        await self.hub.client.jetstream().publish(subjects.knowledge(REGION, TENANT), message)

    async def snapshot(self, version: int, *, stored: bool = True) -> None:
        manifest, file = make_snapshot(self.root, ITEMS, version=version)
        if stored:
            bucket = await self.hub.client.jetstream().object_store(subjects.snapshot_bucket(REGION))
            await bucket.put(manifest.snapshot.object, file.read_bytes())
        await self.send(manifest)

    async def removal(self, version: int) -> None:
        manifest = KnowledgeManifest(region=REGION, tenant=TENANT, version=version, removal=RemovalContent())
        await self.send(manifest)

    async def delta(self, version: int, price: str) -> None:
        await self.send(*make_delta([an_item("amber", version=version, price=price)], version=version, items=2))

    async def until_acked(self, version: int, refusal: Refusal.ValueType = uplink_pb2.REFUSAL_UNSPECIFIED) -> None:
        await until(
            lambda: any((ack.tenant, ack.version, ack.refusal) == (TENANT, version, refusal) for ack in self.hub.acks),
            within_s=20,
        )


def version_of(w: World) -> int:
    running = KnowledgeReplica(w.root / "n/knowledge").version(TENANT)
    return running.version if running is not None else 0


async def test_a_snapshot_and_deltas_reach_the_replica_in_order(tmp_path: Path) -> None:
    async with world(tmp_path) as w, agent(w.settings()):
        publisher = Publisher(w.hub, tmp_path)
        await publisher.snapshot(1)
        await publisher.until_acked(1)
        started = time.monotonic()
        await publisher.delta(2, "6")
        await publisher.until_acked(2)
        assert time.monotonic() - started < 2
        for version in range(3, 30):
            await publisher.delta(version, str(version))
        await publisher.until_acked(29)
        assert version_of(w) == 29
        await until(lambda: any(known.version == 29 for known in w.hub.healths[-1].knowledge))


async def test_a_node_that_was_away_catches_up_from_the_newest_snapshot(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        publisher = Publisher(w.hub, tmp_path)
        await publisher.snapshot(1)
        for version in range(2, 6):
            await publisher.delta(version, str(version))
        async with agent(w.settings()):
            await publisher.until_acked(5)
        assert version_of(w) == 5
        await publisher.delta(6, "6")
        await publisher.snapshot(7)
        await publisher.delta(8, "8")
        async with agent(w.settings()):
            await publisher.until_acked(8)
        assert version_of(w) == 8


async def forged(publisher: Publisher) -> None:
    manifest, content = make_delta([an_item("amber", price="0")], version=2, items=2)
    await publisher.send(manifest, content, signing=SigningHub())


async def of_another_region(publisher: Publisher) -> None:
    manifest, content = make_delta([an_item("amber", price="0")], version=2, items=2)
    manifest.region = "eu-central"
    await publisher.send(manifest, content)


async def of_another_tenant(publisher: Publisher) -> None:
    await publisher.send(*make_delta([an_item("amber", price="0")], version=2, items=2, tenant="bank"))


async def tampered(publisher: Publisher) -> None:
    manifest, content = make_delta([an_item("amber", price="0")], version=2, items=2)
    await publisher.send(manifest, content[:-1] + bytes([content[-1] ^ 1]))


async def with_a_gap(publisher: Publisher) -> None:
    await publisher.send(*make_delta([an_item("amber", price="0")], version=9, items=2))


REFUSED: list[tuple[Callable[[Publisher], Awaitable[None]], int, Refusal.ValueType]] = [
    (forged, 2, uplink_pb2.REFUSAL_SIGNATURE),
    (of_another_region, 2, uplink_pb2.REFUSAL_WRONG_REGION),
    (of_another_tenant, 2, uplink_pb2.REFUSAL_MALFORMED),
    (tampered, 2, uplink_pb2.REFUSAL_DIGEST),
    (with_a_gap, 9, uplink_pb2.REFUSAL_GAP),
]


async def test_what_must_not_be_believed_is_refused_and_the_last_good_version_stays(tmp_path: Path) -> None:
    async with world(tmp_path) as w, agent(w.settings()):
        publisher = Publisher(w.hub, tmp_path)
        await publisher.snapshot(1)
        await publisher.until_acked(1)
        for send, version, refusal in REFUSED:
            await send(publisher)
            await publisher.until_acked(version, refusal)
            assert version_of(w) == 1
        await until(lambda: AlarmCode.KNOWLEDGE_REFUSED in w.hub.healths[-1].alarms)
        await publisher.snapshot(10)
        await publisher.until_acked(10)
        await until(lambda: AlarmCode.KNOWLEDGE_REFUSED not in w.hub.healths[-1].alarms)


async def test_nothing_of_a_tenant_that_left_the_region_stays(tmp_path: Path) -> None:
    """Neither on the node nor in the mirrors; the removal cannot be played again to a tenant that came back."""
    async with world(tmp_path) as w, agent(w.settings()):
        publisher = Publisher(w.hub, tmp_path)
        await publisher.snapshot(1)
        await publisher.delta(2, "6")
        await publisher.until_acked(2)
        mirrors = (await w.network.connect(w.network.node(REGION), ServiceRole.BORDER)).jetstream()
        assert (await mirrors.stream_info(SNAPSHOTS)).state.messages > 0
        w.hub.acks.clear()
        await publisher.removal(2)
        await publisher.until_acked(2)
        assert version_of(w) == 0
        assert [path.name for path in (tmp_path / "n/knowledge").glob(f"{TENANT}*")] == [f"{TENANT}.newest"]
        assert (await mirrors.stream_info(SNAPSHOTS)).state.messages == 0
        knowledge = subjects.knowledge(REGION, TENANT)
        info = await mirrors.stream_info(subjects.knowledge_stream(REGION), subjects_filter=knowledge)
        assert (info.state.subjects or {}) == {knowledge: 1}
        await until(lambda: not w.hub.healths[-1].knowledge)

        await publisher.snapshot(3)
        await publisher.until_acked(3)
        assert version_of(w) == 3
        await publisher.removal(2)
        await publisher.until_acked(2, uplink_pb2.REFUSAL_REPLAYED)
        assert version_of(w) == 3


async def test_a_replica_that_was_damaged_is_fetched_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        publisher = Publisher(w.hub, tmp_path)
        await publisher.snapshot(1)
        await publisher.delta(2, "6")
        async with agent(w.settings()):
            await publisher.until_acked(2)
        data = (tmp_path / "n/knowledge" / f"{TENANT}.db").resolve()
        data.write_bytes(hashlib.sha256(b"torn").digest() * 1000)
        w.hub.acks.clear()
        async with agent(w.settings()):
            await publisher.until_acked(2)
        assert version_of(w) == 2


async def test_a_missing_snapshot_is_waited_for_while_its_mirror_moves_and_else_the_mirror_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.sync.knowledge.RETRY_AFTER_S", 0.5)
    monkeypatch.setattr("edge.sync.archive._APPEARS_WITHIN_S", 0.5)
    healed = 'borough_heals_total{step="mirror"}'
    async with world(tmp_path) as w, agent(w.settings()):
        publisher = Publisher(w.hub, tmp_path)
        await publisher.snapshot(1, stored=False)
        await publisher.until_acked(1, uplink_pb2.REFUSAL_INCOMPLETE)
        bucket = await w.hub.client.jetstream().object_store(subjects.snapshot_bucket(REGION))
        for number in range(10):
            await bucket.put(f"other-{number}", b"x")
            await asyncio.sleep(0.25)
            assert await metric(w.agent_port, healed) == 0
        async with asyncio.timeout(15):
            while not await metric(w.agent_port, healed):
                await asyncio.sleep(0.2)
        attempts = await metric(w.agent_port, healed)
        # As long as several such attempts.
        await asyncio.sleep(2)
        assert await metric(w.agent_port, healed) == attempts == 1
        await publisher.snapshot(1)
        await publisher.until_acked(1)


def steps(*versions: tuple[int, bool]) -> dict[int, Step]:
    held = {}
    for version, is_snapshot in versions:
        manifest = KnowledgeManifest(version=version)
        if is_snapshot:
            manifest.snapshot.object = "x"
        else:
            manifest.delta.version = version - 1
        held[version] = Step(manifest=manifest, content=b"")
    return held


@pytest.mark.parametrize(("running", "expected"), [(0, [3, 4, 5]), (2, [3, 4, 5]), (3, [4, 5]), (4, [5])])
def test_the_chain_goes_through_as_few_messages_as_needed(running: int, expected: list[int]) -> None:
    held = steps((1, True), (2, False), (3, True), (4, False), (5, False))
    assert [step.manifest.version for step in chain(held, running, 5)] == expected


@pytest.mark.parametrize(("running", "held"), [(0, {4, 5, 6}), (4, {5, 6})])
def test_no_more_messages_are_held_than_a_chain_needs(running: int, held: set[int]) -> None:
    found = steps((1, True), (2, False), (3, False), (4, True), (5, False), (6, False), (7, False))
    known = Held(running=running, target=found[6])
    for step in found.values():
        known.take(step)
    assert set(known.steps) == held
    assert [step.manifest.version for step in chain(known.steps, running, 6)] == sorted(held)


def test_a_chain_that_is_not_held_is_a_gap() -> None:
    with pytest.raises(RefusedError) as caught:
        chain(steps((4, False), (5, False)), 2, 5)
    assert caught.value.refusal == uplink_pb2.REFUSAL_GAP
