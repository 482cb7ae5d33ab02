"""Bundles that must not be believed, and a folder that is good after every crash."""

import asyncio
import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from prometheus_client import CollectorRegistry

from contract import subjects, uplink_pb2
from contract.alarms import AlarmCode
from contract.downlink_pb2 import Beat, BundleMessage, Document
from contract.uplink_pb2 import Ack, Refusal
from edge.sync.acks import AckOutbox
from edge.sync.alarms import Alarms
from edge.sync.bundle import BundleReader
from edge.sync.configuration import ConfigSync
from edge.sync.folder import SyncFolder
from edge.sync.rollout import Rollout
from edge.sync.settings import SyncSection
from edge.sync.verification import TrustedKeys
from tests.edge.sync.hub import NODE, REGION, SHOP, SigningHub, shop, zip_bomb

LIMIT_BYTES = 1 << 20


@dataclass
class Node:
    """A node agent's half of configuration, without NATS: messages go in by hand, acks are read from disk."""

    hub: SigningHub
    folder: SyncFolder
    config: ConfigSync
    alarms: Alarms
    acks: AckOutbox

    async def receive(self, payload: bytes) -> Ack:
        """Hand over a message and return the ack that waits after it."""
        await self.config.apply(payload)
        return self.ack()

    def ack(self) -> Ack:
        return Ack.FromString((self.folder.acks / "bundle.pb").read_bytes())


def node_in(directory: Path, hub: SigningHub, keys: TrustedKeys | None = None) -> Node:
    settings = SyncSection(directory=directory, bundles_kept=3)
    folder = SyncFolder(directory, node=NODE, bundles_kept=3)
    folder.prepare()
    acks = AckOutbox(folder.acks, REGION, NODE)
    node_alarms = Alarms(CollectorRegistry())
    config = ConfigSync(
        region=REGION,
        folder=folder,
        reader=BundleReader(region=REGION, keys=keys or TrustedKeys([hub.key.public_key()]), limit_bytes=LIMIT_BYTES),
        rollout=Rollout(folder, acks, node_alarms, settings),
        acks=acks,
        node_alarms=node_alarms,
    )
    return Node(hub=hub, folder=folder, config=config, alarms=node_alarms, acks=acks)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return node_in(tmp_path / "sync", SigningHub())


class TellState(Protocol):
    def __call__(self, *, bundle: int, refused: dict[str, object] | None = None) -> None: ...


@contextmanager
def living_worker(running: Path, name: str = "calls-1") -> Iterator[TellState]:
    """A call worker as its node agent sees it: a lock that is held, a file that it replaces."""

    def tell(*, bundle: int, refused: dict[str, object] | None = None) -> None:
        (running / f"{name}.partial").write_text(json.dumps({"bundle": bundle, "refused": refused}), encoding="utf-8")
        (running / f"{name}.partial").replace(running / f"{name}.json")

    with (running / f"{name}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield tell


def tampered(hub: SigningHub) -> bytes:
    message = BundleMessage.FromString(hub.bundle(6))
    message.manifest.body = message.manifest.body.replace(b"in-south", b"in-north")
    return message.SerializeToString()


def half_delivered(hub: SigningHub) -> bytes:
    message = BundleMessage.FromString(hub.bundle(6))
    message.content = message.content[: len(message.content) // 2]
    return message.SerializeToString()


def other_content(hub: SigningHub) -> bytes:
    message = BundleMessage.FromString(hub.bundle(6))
    message.content = message.content[:-1] + bytes([message.content[-1] ^ 1])
    return message.SerializeToString()


def escaping(hub: SigningHub) -> bytes:
    return hub.bundle(6, [Document(kind="Agent", tenant="../..", name="x", yaml=b"")])


REFUSED: list[tuple[str, Callable[[SigningHub], bytes], Refusal.ValueType]] = [
    ("tampered", tampered, uplink_pb2.REFUSAL_SIGNATURE),
    ("signed by another", lambda _: SigningHub().bundle(6), uplink_pb2.REFUSAL_SIGNATURE),
    ("replayed", lambda hub: hub.bundle(5, shop(str.upper)), uplink_pb2.REFUSAL_REPLAYED),
    ("downgraded", lambda hub: hub.bundle(3), uplink_pb2.REFUSAL_REPLAYED),
    ("wrong region", lambda hub: hub.bundle(6, region="eu-central"), uplink_pb2.REFUSAL_WRONG_REGION),
    ("half delivered", half_delivered, uplink_pb2.REFUSAL_INCOMPLETE),
    ("other content", other_content, uplink_pb2.REFUSAL_DIGEST),
    ("zip bomb", lambda hub: hub.bundle(6, content=zip_bomb(1 << 28)), uplink_pb2.REFUSAL_MALFORMED),
    ("not zstd", lambda hub: hub.bundle(6, content=b"plain"), uplink_pb2.REFUSAL_MALFORMED),
    ("no message", lambda _: b"\xff\xff\xff", uplink_pb2.REFUSAL_MALFORMED),
    ("a path as a name", escaping, uplink_pb2.REFUSAL_MALFORMED),
    ("a document twice", lambda hub: hub.bundle(6, [*shop(), *shop()]), uplink_pb2.REFUSAL_MALFORMED),
]


@pytest.mark.parametrize(("make", "refusal"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
async def test_what_must_not_be_believed_is_refused_and_the_last_good_one_stays(
    node: Node, make: Callable[[SigningHub], bytes], refusal: Refusal.ValueType
) -> None:
    assert (await node.receive(node.hub.bundle(5))).refusal == uplink_pb2.REFUSAL_UNSPECIFIED
    ack = await node.receive(make(node.hub))
    assert Refusal.Name(ack.refusal) == Refusal.Name(refusal)
    assert node.folder.current() == 5
    assert (node.folder.root / "current" / SHOP / "agent-shop-line.yaml").is_file()
    assert node.alarms.raised() == (AlarmCode.CONFIG_REFUSED,)
    assert (await node.receive(node.hub.bundle(7))).version == 7
    assert node.alarms.raised() == ()


async def test_a_document_that_cannot_be_served_is_refused_by_its_name(node: Node) -> None:
    await node.receive(node.hub.bundle(1))
    wrong = shop(lambda text: text.replace("greeting:", "greting:"))
    ack = await node.receive(node.hub.bundle(2, wrong))
    assert (ack.version, ack.refusal) == (2, uplink_pb2.REFUSAL_DOCUMENT)
    assert (ack.document_kind, ack.document_name) == ("Agent", "shop-line")
    assert node.folder.current() == 1
    assert not list(node.folder.bundles.glob(".incoming-*"))


async def test_the_same_bundle_again_is_no_replay_and_is_acked_again(node: Node) -> None:
    await node.receive(node.hub.bundle(1))
    message = node.folder.message(1)
    (node.folder.acks / "bundle.pb").unlink()
    assert (await node.receive(message)).refusal == uplink_pb2.REFUSAL_UNSPECIFIED


async def test_old_bundles_are_removed(node: Node) -> None:
    for version in range(1, 6):
        await node.receive(node.hub.bundle(version))
    assert node.folder.versions() == [3, 4, 5]


async def test_a_full_disk_refuses_and_keeps_what_runs(small_disk: Path) -> None:
    node = node_in(small_disk / "sync", SigningHub())
    await node.receive(node.hub.bundle(1))
    with (small_disk / "other").open("wb", buffering=0) as other, contextlib.suppress(OSError):
        while other.write(bytes(1024)):
            pass
    assert not await node.config.apply(node.hub.bundle(2))
    ((_, said),) = node.acks.waiting()
    assert Ack.FromString(said).refusal == uplink_pb2.REFUSAL_NO_SPACE
    assert node.alarms.raised() == (AlarmCode.CONFIG_REFUSED,)
    assert node.folder.current() == 1
    (small_disk / "other").unlink()
    assert (await node.receive(node.hub.bundle(2))).refusal == uplink_pb2.REFUSAL_UNSPECIFIED
    assert node.folder.current() == 2


async def test_a_node_starts_with_what_is_on_disk_and_mends_it(tmp_path: Path) -> None:
    hub = SigningHub()
    node = node_in(tmp_path, hub)
    await node.receive(hub.bundle(1))
    await node.receive(hub.bundle(2))
    (node.folder.bundles / ".incoming-3").mkdir()
    (node.folder.bundles / "2" / SHOP / "agent-shop-line.yaml").write_text("kind: Agent\n", encoding="utf-8")
    again = node_in(tmp_path, hub)
    assert again.folder.recover(again.config.reader) == 2
    text = (tmp_path / "current" / SHOP / "agent-shop-line.yaml").read_text(encoding="utf-8")
    assert "Volt Electronics" in text
    assert not (node.folder.bundles / ".incoming-3").exists()


async def test_a_node_whose_newest_bundle_is_damaged_starts_with_the_one_before(tmp_path: Path) -> None:
    hub = SigningHub()
    node = node_in(tmp_path, hub)
    await node.receive(hub.bundle(1))
    await node.receive(hub.bundle(2))
    (node.folder.bundles / "2/bundle.pb").write_bytes(b"torn")
    again = node_in(tmp_path, hub)
    assert again.folder.recover(again.config.reader) == 1
    assert again.folder.current() == 1


async def test_a_damaged_bundle_with_none_before_it_is_taken_again(tmp_path: Path) -> None:
    hub = SigningHub()
    node = node_in(tmp_path, hub)
    message = hub.bundle(5)
    await node.receive(message)
    (node.folder.bundles / "5/bundle.pb").write_bytes(message[:-7])
    again = node_in(tmp_path, hub)
    assert again.folder.recover(again.config.reader) == 0
    assert (await again.receive(hub.bundle(4))).refusal == uplink_pb2.REFUSAL_REPLAYED
    ack = await again.receive(message)
    assert (ack.version, ack.refusal) == (5, uplink_pb2.REFUSAL_UNSPECIFIED)
    assert again.folder.message(5) == message


async def test_a_bundle_that_a_worker_cannot_serve_is_taken_back(node: Node) -> None:
    await node.receive(node.hub.bundle(1))
    with living_worker(node.folder.running) as tell:
        tell(bundle=1)
        await node.receive(node.hub.bundle(2))
        assert node.ack().version == 1
        tell(bundle=1, refused={"bundle": 2, "code": "conversation.documents_invalid", "tenant": SHOP})
        node.config.rollout.look()
        ack = node.ack()
        assert (ack.version, ack.refusal) == (2, uplink_pb2.REFUSAL_DOCUMENT)
        assert ack.document_name == SHOP
        assert node.folder.current() == 1
        assert node.folder.versions() == [1]
        node.config.rollout.look()
        assert node.ack().refusal == uplink_pb2.REFUSAL_DOCUMENT
        assert (await node.receive(node.hub.bundle(2))).refusal == uplink_pb2.REFUSAL_DOCUMENT
        assert node.folder.current() == 1


async def test_the_first_bundle_of_all_is_refused_once(node: Node) -> None:
    with living_worker(node.folder.running) as tell:
        tell(bundle=0)
        await node.config.apply(node.hub.bundle(1))
        tell(bundle=0, refused={"bundle": 1, "code": "conversation.documents_invalid", "tenant": SHOP})
        node.config.rollout.look()
        assert node.ack().refusal == uplink_pb2.REFUSAL_DOCUMENT
        (node.folder.acks / "bundle.pb").unlink()
        node.config.rollout.look()
        assert not (node.folder.acks / "bundle.pb").exists()
        await node.config.apply(node.hub.bundle(2))
        tell(bundle=2)
        node.config.rollout.look()
        assert (node.ack().version, node.ack().refusal) == (2, uplink_pb2.REFUSAL_UNSPECIFIED)


async def test_keys_rotate_by_trusting_both_for_a_while(tmp_path: Path) -> None:
    old, new = SigningHub(), SigningHub()
    node = node_in(tmp_path, old, TrustedKeys([old.key.public_key(), new.key.public_key()]))
    assert (await node.receive(old.bundle(1))).refusal == uplink_pb2.REFUSAL_UNSPECIFIED
    assert (await node.receive(new.bundle(2))).refusal == uplink_pb2.REFUSAL_UNSPECIFIED


async def test_a_bundle_is_acked_once_every_living_worker_runs_it(node: Node) -> None:
    with (
        living_worker(node.folder.running, "calls-1") as first,
        living_worker(node.folder.running, "calls-2") as second,
    ):
        first(bundle=0)
        await node.config.apply(node.hub.bundle(1))
        watching = asyncio.create_task(node.config.rollout.run())
        first(bundle=1)
        node.config.rollout.look()
        assert not (node.folder.acks / "bundle.pb").exists()
        second(bundle=1)
        async with asyncio.timeout(5):
            while not (node.folder.acks / "bundle.pb").exists():
                await asyncio.sleep(0.01)
        watching.cancel()
    assert node.ack().version == 1


async def test_a_beat_is_no_bundle(node: Node) -> None:
    node.config.handle(subjects.config_beat(REGION), Beat(seq=1, sent_at_ms=1).SerializeToString())
    assert node.folder.current() == 0
    assert node.config.beats.age_s() > 1e6
    node.config.handle(subjects.config_beat(REGION), Beat(seq=2, sent_at_ms=1).SerializeToString())
    assert node.config.beats.age_s() < 5
