"""Bundles on a real nats-server: what a reader in a region gets, verified as a node does; crashes lose nothing."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zstandard
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from contract.downlink_pb2 import Bundle, BundleManifest, BundleMessage
from contract.subjects import bundle, config_stream
from controlplane.bundles import compiling
from controlplane.bundles.publishing import BundlePublisher
from controlplane.bundles.regions import RegionBundles
from controlplane.database import HubDatabase
from controlplane.documents.application import Documents
from controlplane.documents.catalogue import Catalogue
from controlplane.documents.judgement import pack_judge
from controlplane.errors import BundleTooLargeError, LeaseLostError
from controlplane.lease import Holder, Lease
from controlplane.metrics import HubMetrics
from controlplane.signing import Signer
from controlplane.streams import ensure_streams
from tests.controlplane.certificates import write_signing_key
from tests.controlplane.conftest import ADA
from tests.controlplane.estate_files import edited, everything, regions

REGIONS = ("eu-central", "in-south")
GREETED = edited(everything(), "shop/agent.yaml", "Hello from shop.", "Welcome.")


@pytest.fixture
async def lease(nats: Client) -> AsyncIterator[Lease]:
    await ensure_streams(nats, REGIONS)
    held = Lease(nats.jetstream(), Holder(name="hub-1", address=""), ttl_s=60)
    await held.acquire()
    yield held
    await held.release()


def publisher_of(
    database: HubDatabase, nats: Client, signer: Signer, lease: Lease, known: Catalogue | None = None
) -> BundlePublisher:
    catalogue = known or Catalogue(database)

    async def prepare() -> None:
        await ensure_streams(nats, REGIONS)

    return BundlePublisher(
        database,
        nats.jetstream(),
        RegionBundles(signer),
        lease,
        metrics=HubMetrics.create(),
        prepare=prepare,
        reissued=catalogue.refresh,
    )


@pytest.fixture
def publisher(database: HubDatabase, nats: Client, signer: Signer, lease: Lease) -> BundlePublisher:
    return publisher_of(database, nats, signer, lease)


async def manifests(nats: Client, region: str) -> list[BundleManifest]:
    """The manifests in a region's stream, oldest first."""
    jetstream = nats.jetstream()
    info = await jetstream.stream_info(config_stream(region))
    found = []
    for seq in range(max(1, info.state.first_seq), info.state.last_seq + 1):
        message = await jetstream.get_msg(config_stream(region), seq)
        found.append(BundleManifest.FromString(BundleMessage.FromString(message.data or b"").manifest.body))
    return found


async def versions(nats: Client, region: str) -> list[int]:
    return [manifest.version for manifest in await manifests(nats, region)]


def open_bundle(message: BundleMessage, public: Ed25519PublicKey) -> Bundle:
    """Verify and unpack as a node must."""
    public.verify(message.manifest.signature, message.manifest.body)
    manifest = BundleManifest.FromString(message.manifest.body)
    assert hashlib.sha256(message.content).digest() == manifest.content_sha256
    return Bundle.FromString(zstandard.ZstdDecompressor().decompress(message.content, max_output_size=1 << 24))


async def test_a_reader_verifies_and_finds_exactly_its_regions_documents(
    tmp_path: Path, database: HubDatabase, nats: Client, lease: Lease
) -> None:
    public = write_signing_key(tmp_path / "own.pem").public_key()
    signer = Signer.from_file(tmp_path / "own.pem")
    await Documents(database, RegionBundles(signer), pack_judge()).apply(everything(), ADA)
    await publisher_of(database, nats, signer, lease).publish_waiting()
    stored = await nats.jetstream().get_last_msg(config_stream("eu-central"), bundle("eu-central"))
    message = BundleMessage.FromString(stored.data or b"")
    found = open_bundle(message, public)
    assert [(document.kind, document.tenant, document.name) for document in found.documents] == [
        ("Region", "", "eu-central"),
        ("Agent", "bank", "line"),
        ("Flow", "bank", "order"),
        ("Policy", "bank", "careful"),
        ("Tenant", "bank", "bank"),
    ]
    message.manifest.body += b"\0"
    with pytest.raises(InvalidSignature):
        open_bundle(message, public)


async def test_each_region_counts_its_own_versions(
    documents: Documents, publisher: BundlePublisher, nats: Client
) -> None:
    await documents.apply(everything(), ADA)
    await documents.apply(GREETED, ADA)
    assert await publisher.publish_waiting() == 3
    assert await publisher.publish_waiting() == 0
    assert await versions(nats, "in-south") == [1, 2]
    assert await versions(nats, "eu-central") == [1]


async def test_a_crash_between_storing_and_publishing_loses_nothing(tmp_path: Path, nats: Client, lease: Lease) -> None:
    write_signing_key(tmp_path / "own.pem")
    signer = Signer.from_file(tmp_path / "own.pem")
    async with HubDatabase(tmp_path / "other.sqlite3") as database:
        await Documents(database, RegionBundles(signer), pack_judge()).apply(everything(), ADA)
    async with HubDatabase(tmp_path / "other.sqlite3") as database:
        assert await publisher_of(database, nats, signer, lease).publish_waiting() == 2
    assert await versions(nats, "in-south") == [1]


async def test_a_crash_after_publishing_and_before_marking_stores_it_once(
    documents: Documents, publisher: BundlePublisher, nats: Client, database: HubDatabase
) -> None:
    await documents.apply(everything(), ADA)
    await publisher.publish_waiting()
    await database.write(lambda c: c.execute("UPDATE bundles SET published_at_ms = NULL"))
    assert await publisher.publish_waiting() == 2
    assert await versions(nats, "in-south") == [1]


async def test_a_stream_that_lost_its_bundles_gets_the_newest_again(
    documents: Documents, publisher: BundlePublisher, nats: Client
) -> None:
    await documents.apply(everything(), ADA)
    await documents.apply(GREETED, ADA)
    await publisher.publish_waiting()
    await nats.jetstream().delete_stream(config_stream("in-south"))
    await ensure_streams(nats, REGIONS)
    await publisher.reconcile()
    await publisher.publish_waiting()
    assert await versions(nats, "in-south") == [2]


async def test_a_database_that_is_older_than_the_stream_goes_on_above_it(
    documents: Documents, publisher: BundlePublisher, nats: Client, database: HubDatabase
) -> None:
    await documents.apply(everything(), ADA)
    await documents.apply(GREETED, ADA)
    await publisher.publish_waiting()
    await database.write(lambda c: c.execute("DELETE FROM bundles WHERE version = 2; SELECT 1").fetchall())
    await publisher.reconcile()
    await publisher.publish_waiting()
    assert await versions(nats, "in-south") == [1, 2, 3]


async def test_streams_that_are_gone_while_it_runs_are_made_again(
    documents: Documents, publisher: BundlePublisher, nats: Client
) -> None:
    await documents.apply(everything(), ADA)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(publisher.run())
        await until_version(nats, 1)
        await nats.jetstream().delete_stream(config_stream("in-south"))
        await documents.apply(GREETED, ADA)
        publisher.wake()
        await until_version(nats, 2)
        running.cancel()


async def until_version(nats: Client, version: int) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(NotFoundError):
                if (await versions(nats, "in-south"))[-1:] == [version]:
                    return
            await asyncio.sleep(0.05)


async def test_nothing_is_published_without_the_lease(
    documents: Documents, publisher: BundlePublisher, nats: Client, lease: Lease
) -> None:
    await documents.apply(everything(), ADA)
    await lease.release()
    with pytest.raises(LeaseLostError):
        await publisher.publish_waiting()
    assert await versions(nats, "in-south") == []


async def test_documents_that_do_not_fit_into_a_message_are_refused(
    documents: Documents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "MAX_CONTENT_BYTES", 100)
    with pytest.raises(BundleTooLargeError, match="eu-central"):
        await documents.apply(regions(), ADA)
    assert await documents.current("", "") == []


async def test_streams_are_created_again_without_harm(nats: Client) -> None:
    await ensure_streams(nats, REGIONS)
    await nats.jetstream().publish(bundle("in-south"), b"x")
    await ensure_streams(nats, REGIONS)
    assert (await nats.jetstream().stream_info(config_stream("in-south"))).state.messages == 1


async def test_the_catalogue_knows_a_version_that_was_issued_anew(
    documents: Documents, database: HubDatabase, nats: Client, signer: Signer, lease: Lease
) -> None:
    """The database was restored and lacks version 2: nodes get version 3, and what they count of it is expected."""
    catalogue = Catalogue(database)
    publisher = publisher_of(database, nats, signer, lease, catalogue)
    await documents.apply(everything(), ADA)
    await documents.apply(GREETED, ADA)
    await publisher.publish_waiting()
    await database.write(lambda connection: connection.execute("DELETE FROM bundles WHERE version = 2").fetchall())
    await catalogue.refresh()
    await publisher.reconcile()
    assert catalogue.newest_bundle("in-south") == 3
    assert [catalogue.has_bundle("in-south", version) for version in (1, 2, 3)] == [True, False, True]
