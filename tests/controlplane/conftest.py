"""Parts that many tests of the hub need: a database, a signing key, documents."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from controlplane.admin.callers import Caller, Role
from controlplane.bundles.regions import RegionBundles
from controlplane.database import HubDatabase
from controlplane.documents.application import Documents
from controlplane.documents.judgement import pack_judge
from controlplane.signing import Signer
from tests.controlplane.certificates import write_signing_key
from tests.controlplane.hub_process import Hub
from tests.controlplane.nats_server import NatsServer, connected

ADA = Caller(name="ada", role=Role.OPERATOR, serial=1)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[HubDatabase]:
    async with HubDatabase(tmp_path / "hub.sqlite3") as opened:
        yield opened


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    write_signing_key(tmp_path / "signing.pem")
    return Signer.from_file(tmp_path / "signing.pem")


@pytest.fixture
def documents(database: HubDatabase, signer: Signer) -> Documents:
    return Documents(database, RegionBundles(signer), pack_judge())


@pytest.fixture
async def nats_server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def nats(nats_server: NatsServer) -> AsyncIterator[Client]:
    async with connected(nats_server) as client:
        yield client


@pytest.fixture
async def hub(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Hub]:
    """A hub of one instance that is active."""
    running = Hub(tmp_path, nats_server.url)
    await running.start("hub-1")
    await running.until_active("hub-1")
    yield running
    await running.stop()
