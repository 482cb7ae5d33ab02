"""From uploaded items to what a node applies: drafts, vectors made once, deltas and snapshots, rollback, crashes."""

import asyncio
import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError
from numpy.typing import NDArray

from contract.downlink_pb2 import KnowledgeManifest, KnowledgeMessage
from contract.knowledge_items import Item
from contract.subjects import knowledge, knowledge_stream, snapshot_bucket
from controlplane.database import HubDatabase
from controlplane.knowledge import library as library_module
from controlplane.knowledge import publishing
from controlplane.knowledge.errors import (
    KnowledgeItemsError,
    KnowledgeNotFoundError,
    KnowledgeNotSentError,
    KnowledgeNowhereError,
)
from controlplane.knowledge.library import KnowledgeLibrary, Upload
from controlplane.knowledge.publishing import KnowledgePublisher
from controlplane.signing import Signer
from controlplane.streams import ensure_streams
from edge.knowledge.database import stored_items
from edge.knowledge.replica import KnowledgeReplica, link_path, open_reader
from tests.controlplane.conftest import ADA
from tests.controlplane.nats_server import NatsServer
from tests.nats_network import eventually

REGIONS = ("eu-central", "in-south")
TODAY = datetime.now(UTC).date()
NO_PATIENCE_S = 0.1


class CountingEmbedder:
    """Counts letters, and what it was asked."""

    def __init__(self) -> None:
        self.name = "letters:1"
        self.asked: list[str] = []

    async def model(self) -> str:
        return self.name

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked += texts
        rows = [[text.lower().count(chr(letter)) + 0.01 for letter in range(97, 123)] for text in texts]
        vectors = np.array(rows, dtype=np.float32)
        unit: NDArray[np.float32] = vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        return unit


class Lease:
    def check(self) -> None:
        """Always held."""


@dataclass
class Hub:
    """A library on a real database and a real NATS server."""

    library: KnowledgeLibrary
    embedder: CountingEmbedder
    nats: Client
    directory: Path
    regions: tuple[str, ...] = REGIONS


@pytest.fixture
async def hub(database: HubDatabase, signer: Signer, nats: Client, tmp_path: Path) -> Hub:
    await ensure_streams(nats, REGIONS)
    embedder = CountingEmbedder()
    publisher = KnowledgePublisher(database, nats.jetstream(), Lease(), tmp_path / "snapshots")
    made = Hub(library=None, embedder=embedder, nats=nats, directory=tmp_path)  # type: ignore[arg-type]
    made.library = KnowledgeLibrary(database, signer, embedder, publisher, lambda _: made.regions)
    return made


@contextlib.contextmanager
def no_patience(hub: Hub) -> Iterator[None]:
    """While the server is away: nobody answers, and each question would be waited for."""
    jetstream = hub.library._publisher._jetstream
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jetstream, "_timeout", NO_PATIENCE_S)
        patch.setattr(publishing, "PUBLISH_WITHIN_S", NO_PATIENCE_S)
        yield


def an_item(number: int, *, price: str = "5", until: date | None = None, since: date | None = None) -> Item:
    return Item(
        id=f"p{number}",
        version=1,
        title=f"lamp {number}",
        source="products",
        answer=f"Lamp {number} gives light.",
        attributes={"price": price},
        valid_from=since,
        valid_until=until,
    )


def upload(*items: Item, is_patch: bool = False, removals: tuple[str, ...] = ()) -> list[Upload]:
    return [Upload(source="products", items=items, is_patch=is_patch, removals=removals)]


TWENTY = [an_item(number) for number in range(20)]


async def messages(hub: Hub, region: str = "in-south") -> list[tuple[KnowledgeManifest, bytes]]:
    """What a region was sent."""
    stream = hub.nats.jetstream()
    info = await stream.stream_info(knowledge_stream(region))
    found = []
    for sequence in range(max(info.state.first_seq, 1), info.state.last_seq + 1):
        try:
            message = await stream.get_msg(knowledge_stream(region), sequence)
        except NotFoundError:  # purged
            continue
        if message.subject != knowledge(region, "shop"):
            continue
        parsed = KnowledgeMessage.FromString(message.data or b"")
        found.append((KnowledgeManifest.FromString(parsed.manifest.body), parsed.content))
    return found


async def node(hub: Hub, region: str = "in-south") -> dict[str, str]:
    """Apply all that a region was sent to a fresh replica, as its nodes do; returns prices by id."""
    folder = hub.directory / f"node-{region}-{len(list(hub.directory.iterdir()))}"
    replica = KnowledgeReplica(folder)
    for manifest, content in await messages(hub, region):
        if manifest.HasField("snapshot"):
            bucket = await hub.nats.jetstream().object_store(snapshot_bucket(region))
            try:
                data = (await bucket.get(manifest.snapshot.object)).data
            except Exception:  # noqa: BLE001, S112 - an old snapshot was dropped; a newer one follows
                continue
            file = hub.directory / "fetched.zst"
            file.write_bytes(data or b"")
            replica.apply_snapshot(manifest, file)
        elif replica.version("shop") is not None:
            replica.apply_delta(manifest, content)
    reader = open_reader(link_path(folder, "shop"))
    prices = {message.id: message.attributes["price"] for message in stored_items(reader)}
    reader.close()
    return prices


async def test_the_first_version_is_a_snapshot_and_the_next_a_delta(hub: Hub) -> None:
    """Nodes of both regions end with the same items."""
    diff = await hub.library.build("shop", upload(*TWENTY), ADA)
    assert (diff.added, diff.changed, diff.removed, diff.items) == (20, 0, 0, 20)
    assert diff.examples[0] == "added products/p0 lamp 0"
    first = await hub.library.publish("shop", ADA)
    assert (first.version, first.is_snapshot, first.regions) == (1, True, REGIONS)
    changed = upload(an_item(3, price="6"), an_item(20), is_patch=True, removals=("p4",))
    diff = await hub.library.build("shop", changed, ADA)
    assert (diff.added, diff.changed, diff.removed, diff.items) == (1, 1, 1, 20)
    second = await hub.library.publish("shop", ADA)
    assert (second.version, second.is_snapshot) == (2, False)
    assert second.content_bytes < 1000
    expected = {f"p{number}": "5" for number in range(21) if number != 4} | {"p3": "6"}
    assert await node(hub) == await node(hub, "eu-central") == expected
    assert not list((hub.directory / "snapshots").iterdir())


async def test_vectors_are_made_once(hub: Hub) -> None:
    """A rebuild asks only for what changed; a price changes no text."""
    await hub.library.build("shop", upload(*TWENTY), ADA)
    assert len(hub.embedder.asked) == 20
    changed = [an_item(0, price="9"), *TWENTY[1:], an_item(20)]
    await hub.library.build("shop", upload(*changed), ADA)
    assert len(hub.embedder.asked) == 21


async def test_nothing_new_is_not_published(hub: Hub) -> None:
    """Unless a snapshot is asked for, or a region has none."""
    hub.regions = ("in-south",)
    await hub.library.build("shop", upload(*TWENTY), ADA)
    await hub.library.publish("shop", ADA)
    again = await hub.library.publish("shop", ADA)
    assert (again.version, again.regions) == (1, ())
    hub.regions = REGIONS
    third = await hub.library.publish("shop", ADA)
    assert (third.version, third.is_snapshot) == (2, True)
    sent = [manifest.WhichOneof("content") for manifest, _ in await messages(hub)]
    assert sent == ["snapshot", "delta"]
    assert (await hub.library.publish("shop", ADA, snapshot=True)).version == 3


async def test_many_changes_or_another_model_are_a_snapshot(hub: Hub) -> None:
    """More than a fifth of the items, or vectors that cannot be compared with the old ones."""
    await hub.library.build("shop", upload(*TWENTY), ADA)
    await hub.library.publish("shop", ADA)
    await hub.library.build("shop", upload(*(an_item(number, price="7") for number in range(20))), ADA)
    assert (await hub.library.publish("shop", ADA)).is_snapshot
    hub.embedder.name = "letters:2"
    await hub.library.build("shop", upload(an_item(0, price="8"), is_patch=True), ADA)
    assert len(hub.embedder.asked) == 40
    assert (await hub.library.publish("shop", ADA)).is_snapshot
    assert (await messages(hub))[-1][0].snapshot.embedding == "letters:2"
    assert await node(hub) == {**{f"p{number}": "7" for number in range(20)}, "p0": "8"}


async def test_many_deltas_are_followed_by_a_snapshot(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that starts from nothing must find one in the stream."""
    monkeypatch.setattr(library_module, "MOST_DELTAS", 3)
    await hub.library.build("shop", upload(*TWENTY), ADA)
    kinds = []
    for number in range(9):
        await hub.library.build("shop", upload(an_item(0, price=str(number)), is_patch=True), ADA)
        kinds.append((await hub.library.publish("shop", ADA)).is_snapshot)
    assert kinds == [True, False, False, False, True, False, False, False, True]
    bucket = await hub.nats.jetstream().object_store(snapshot_bucket("in-south"))
    assert sum(not found.deleted for found in await bucket.list()) == 2


async def test_a_tenants_share_of_a_regions_streams_is_its_own(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deltas that would take more become a snapshot, before which nothing is left; what is too large goes nowhere."""
    await hub.library.build("shop", upload(*TWENTY), ADA)
    await hub.library.publish("shop", ADA)
    kinds = []
    for number in range(2):
        await hub.library.build("shop", upload(an_item(0, price=str(number)), is_patch=True), ADA)
        kinds.append((await hub.library.publish("shop", ADA)).is_snapshot)
    (_, first), (_, second) = (await messages(hub))[1:]
    monkeypatch.setattr(library_module, "KNOWLEDGE_BYTES_A_TENANT", len(first) + len(second) + 1)
    await hub.library.build("shop", upload(an_item(0, price="9"), is_patch=True), ADA)
    kinds.append((await hub.library.publish("shop", ADA)).is_snapshot)
    assert kinds == [False, False, True]
    assert [manifest.version for manifest, _ in await messages(hub)] == [4]
    assert (await node(hub))["p0"] == "9"

    monkeypatch.setattr(library_module, "SNAPSHOT_BYTES_A_TENANT", 100)
    with pytest.raises(KnowledgeItemsError, match="MiB"):
        await hub.library.publish("shop", ADA, snapshot=True)
    assert [manifest.version for manifest, _ in await messages(hub)] == [4]
    assert list((hub.directory / "snapshots").iterdir()) == []


async def test_nothing_stays_where_a_tenant_is_served_no_longer(hub: Hub) -> None:
    """The region is told; its messages and objects go. Where the tenant comes back, its knowledge does, too."""
    await hub.library.build("shop", upload(*TWENTY), ADA)
    await hub.library.publish("shop", ADA)
    await hub.library.build("shop", upload(an_item(0, price="6"), is_patch=True), ADA)
    await hub.library.publish("shop", ADA)
    hub.regions = ("eu-central",)
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.library.run())

        async def is_removed() -> bool:
            return [manifest.WhichOneof("content") for manifest, _ in await messages(hub)] == ["removal"]

        async def has_no_object() -> bool:
            return await objects(hub, "in-south") == 0

        await eventually(is_removed)
        await eventually(has_no_object)
        assert (await messages(hub))[0][0].version == 2
        assert await objects(hub, "eu-central") == 1
        assert len(await messages(hub, "eu-central")) == 2

        # What is published meanwhile goes to the others only.
        await hub.library.build("shop", upload(an_item(0, price="7"), is_patch=True), ADA)
        assert (await hub.library.publish("shop", ADA)).regions == ("eu-central",)
        assert len(await messages(hub)) == 1
        running.cancel()

    hub.regions = REGIONS
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.library.run())

        async def is_back() -> bool:
            return (await messages(hub))[-1][0].HasField("snapshot")

        await eventually(is_back)
        assert (await messages(hub))[-1][0].version == 4
        assert (await node(hub))["p0"] == "7"
        running.cancel()
    await hub.library.build("shop", upload(an_item(0, price="8"), is_patch=True), ADA)
    assert not (await hub.library.publish("shop", ADA)).is_snapshot
    assert (await node(hub))["p0"] == "8"


async def objects(hub: Hub, region: str) -> int:
    """How many snapshots a region's object store holds."""
    bucket = await hub.nats.jetstream().object_store(snapshot_bucket(region))
    try:
        return sum(not found.deleted for found in await bucket.list())
    except NotFoundError:
        return 0


async def test_rollback_is_a_new_version_with_the_old_items(hub: Hub) -> None:
    """Its delta is the difference."""
    await hub.library.build("shop", upload(*TWENTY), ADA)
    await hub.library.publish("shop", ADA)
    await hub.library.build("shop", upload(an_item(1, price="1"), is_patch=True, removals=("p2",)), ADA)
    await hub.library.publish("shop", ADA)
    back = await hub.library.rollback("shop", 1, ADA)
    assert (back.version, back.is_snapshot) == (3, False)
    assert await node(hub) == {f"p{number}": "5" for number in range(20)}
    forward = await hub.library.rollback("shop", 2, ADA)
    assert forward.version == 4
    assert "p2" not in await node(hub)
    with pytest.raises(KnowledgeNotFoundError):
        await hub.library.rollback("shop", 9, ADA)


async def test_status_tells_dates_and_drafts(hub: Hub) -> None:
    """How many items hold today, and whether something waits to be published."""
    day = timedelta(days=1)
    await hub.library.build(
        "shop", upload(an_item(1, until=TODAY), an_item(2, until=TODAY - day), an_item(3, since=TODAY + day)), ADA
    )
    (before,) = await hub.library.status("")
    assert before.version is None
    assert before.has_draft
    await hub.library.publish("shop", ADA)
    (status,) = await hub.library.status("shop")
    assert status.version is not None
    assert (status.version.version, status.version.items, status.has_draft) == (1, 3, False)
    assert (status.counts.valid, status.counts.expired, status.counts.future) == (1, 1, 1)
    with pytest.raises(KnowledgeNotFoundError):
        await hub.library.status("nobody")


async def test_what_cannot_be_is_refused(hub: Hub) -> None:
    """A patch that removes what is not there leaves the draft; a tenant without a region has nowhere to go."""
    await hub.library.build("shop", upload(*TWENTY), ADA)
    with pytest.raises(KnowledgeItemsError):
        await hub.library.build("shop", upload(an_item(99), is_patch=True, removals=("p77",)), ADA)
    assert (await hub.library.diff("shop")).items == 20
    with pytest.raises(KnowledgeNotFoundError):
        await hub.library.diff("nobody")
    with pytest.raises(KnowledgeNotFoundError):
        await hub.library.publish("nobody", ADA)
    hub.regions = ()
    with pytest.raises(KnowledgeNowhereError):
        await hub.library.publish("shop", ADA)


async def test_a_region_that_cannot_be_served_does_not_keep_others_waiting(hub: Hub) -> None:
    """Its stream is not there yet; once it is, it gets what waited."""
    hub.regions = ("ap-east", "in-south")
    await hub.library.build("shop", upload(*TWENTY), ADA)
    with pytest.raises(KnowledgeNotSentError):
        await hub.library.publish("shop", ADA)
    assert [manifest.version for manifest, _ in await messages(hub)] == [1]
    assert len(list((hub.directory / "snapshots").iterdir())) == 1
    await ensure_streams(hub.nats, ["ap-east"])
    await hub.library.build("shop", upload(an_item(0, price="6"), is_patch=True), ADA)
    await hub.library.publish("shop", ADA)
    assert await node(hub, "ap-east") == await node(hub)
    assert not list((hub.directory / "snapshots").iterdir())


async def test_a_crash_between_storing_and_sending_loses_nothing(hub: Hub, nats_server: NatsServer) -> None:
    """What is stored is sent when NATS is back, snapshot and delta, each once."""
    await hub.library.build("shop", upload(*TWENTY), ADA)
    await nats_server.stop()
    with no_patience(hub):
        with pytest.raises(KnowledgeNotSentError):
            await hub.library.publish("shop", ADA)
        await hub.library.build("shop", upload(an_item(0, price="6"), is_patch=True), ADA)
        with pytest.raises(KnowledgeNotSentError):
            await hub.library.publish("shop", ADA)
    await nats_server.start()
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.library.run())
        async with asyncio.timeout(20):
            while [manifest.version for manifest, _ in await messages(hub)] != [1, 2]:
                await asyncio.sleep(0.05)
        running.cancel()
    assert (await node(hub))["p0"] == "6"


async def test_a_stream_that_knows_more_or_less_is_sent_everything(hub: Hub) -> None:
    """After a restore of the database, or after NATS lost its data."""
    await hub.library.build("shop", upload(*TWENTY), ADA)
    await hub.library.publish("shop", ADA)
    await hub.nats.jetstream().purge_stream(knowledge_stream("in-south"))
    ahead = KnowledgeManifest(region="eu-central", tenant="shop", version=7).SerializeToString()
    message = KnowledgeMessage()
    message.manifest.body = ahead
    await hub.nats.jetstream().publish(knowledge("eu-central", "shop"), message.SerializeToString())
    await hub.library._reconcile()
    for region in REGIONS:
        last = (await messages_after_purge(hub, region))[-1]
        assert last.version == 8
        assert last.HasField("snapshot")


async def test_a_draft_that_nobody_published_stays_a_draft(hub: Hub) -> None:
    """The hub sends anew what was published, by itself; the draft is left for somebody to review."""
    await hub.library.build("shop", upload(*TWENTY), ADA)
    await hub.library.publish("shop", ADA)
    await hub.library.build("shop", upload(an_item(0, price="0.01"), is_patch=True), ADA)
    await hub.nats.jetstream().purge_stream(knowledge_stream("in-south"))
    assert await hub.library._reconcile()
    assert await node(hub) == {f"p{number}": "5" for number in range(20)}
    (status,) = await hub.library.status("shop")
    assert status.has_draft
    published = await hub.library.publish("shop", ADA)
    assert (published.version, published.is_snapshot) == (3, False)
    assert (await node(hub))["p0"] == "0.01"


@pytest.mark.parametrize("is_reconciled", [False, True])
async def test_a_snapshot_that_waits_and_is_not_on_this_disk_is_made_anew(
    hub: Hub, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch, *, is_reconciled: bool
) -> None:
    """Who made it died before it was sent; other tenants do not wait for it, and later deltas go on from it."""
    await hub.library.build("shop", upload(*TWENTY), ADA)
    await hub.library.build("bank", upload(*TWENTY), ADA)
    await nats_server.stop()
    with no_patience(hub):
        with pytest.raises(KnowledgeNotSentError):
            await hub.library.publish("shop", ADA)
        shutil.rmtree(hub.directory / "snapshots")
        with pytest.raises(KnowledgeNotSentError):
            await hub.library.publish("bank", ADA)
        await hub.library.build("shop", upload(an_item(0, price="6"), is_patch=True), ADA)
        with pytest.raises(KnowledgeNotSentError):
            await hub.library.publish("shop", ADA)
    await hub.library.build("shop", upload(an_item(1, price="0.01"), is_patch=True), ADA)
    await nats_server.start()
    if is_reconciled:
        monkeypatch.setattr(hub.library, "_reconcile", _nothing_to_do)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(hub.library.run())
        async with asyncio.timeout(20):
            while len(await messages(hub, "eu-central")) < 1 or len(await messages(hub)) < 1:
                await asyncio.sleep(0.05)
        running.cancel()
    for region in REGIONS:
        assert [manifest.version for manifest, _ in await messages(hub, region)] == [3]
        assert await node(hub, region) == {**{f"p{number}": "5" for number in range(20)}, "p0": "6"}
    await hub.nats.jetstream().get_last_msg(knowledge_stream("in-south"), knowledge("in-south", "bank"))


async def _nothing_to_do() -> bool:
    return True


async def messages_after_purge(hub: Hub, region: str) -> list[KnowledgeManifest]:
    message = await hub.nats.jetstream().get_last_msg(knowledge_stream(region), knowledge(region, "shop"))
    return [KnowledgeManifest.FromString(KnowledgeMessage.FromString(message.data or b"").manifest.body)]
