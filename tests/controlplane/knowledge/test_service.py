"""The Knowledge service over real gRPC, as the CLI uses it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc
import pytest
from nats.aio.client import Client

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import KnowledgeStub, add_KnowledgeServicer_to_server
from controlplane.admin.callers import CallContext, Caller, Role
from controlplane.database import HubDatabase
from controlplane.errors import ControlPlaneError
from controlplane.knowledge.library import KnowledgeLibrary
from controlplane.knowledge.publishing import KnowledgePublisher
from controlplane.knowledge.service import KnowledgeService
from controlplane.signing import Signer
from controlplane.streams import ensure_streams
from tests.controlplane.conftest import ADA
from tests.controlplane.knowledge.test_library import CountingEmbedder, Lease

LINE = b'{"id": "a", "version": 1, "title": "A", "answer": "It is A.", "valid_until": "2020-01-01"}\n'
needed: list[Role] = []


def allow(context: CallContext, role: Role) -> Caller:
    needed.append(role)
    return ADA


@pytest.fixture
async def stub(database: HubDatabase, signer: Signer, nats: Client, tmp_path: Path) -> AsyncIterator[KnowledgeStub]:
    await ensure_streams(nats, ["in-south"])
    publisher = KnowledgePublisher(database, nats.jetstream(), Lease(), tmp_path / "snapshots")
    library = KnowledgeLibrary(database, signer, CountingEmbedder(), publisher, lambda _: ("in-south",))
    server = grpc.aio.server()
    add_KnowledgeServicer_to_server(KnowledgeService(library, allow), server)
    server.add_insecure_port(f"unix:{tmp_path}/admin.sock")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/admin.sock") as channel:
        yield KnowledgeStub(channel)
    await server.stop(0)


def header(source: str = "x", **fields: object) -> pb.BuildRequest:
    return pb.BuildRequest(header=pb.BuildHeader(tenant="shop", source=source, **fields))  # type: ignore[arg-type]


def jsonl(content: bytes) -> pb.BuildRequest:
    return pb.BuildRequest(jsonl=content)


async def test_items_are_built_published_and_told(stub: KnowledgeStub) -> None:
    """Pieces may break lines anywhere; roles are asked for."""
    needed.clear()
    diff = await stub.Build(iter([header(), jsonl(LINE[:20]), jsonl(LINE[20:]), header("y"), jsonl(LINE)]))
    assert (diff.tenant, diff.added, diff.items) == ("shop", 2, 2)
    assert list(diff.examples) == ["added x/a A", "added y/a A"]
    reply = await stub.Publish(pb.PublishRequest(tenant="shop"))
    assert (reply.version, reply.is_snapshot, list(reply.regions)) == (1, True, ["in-south"])
    assert (await stub.Diff(pb.TenantRef(tenant="shop"))).added == 0
    await stub.Build(iter([header("y", is_patch=True, removals=["a"])]))
    assert (await stub.Publish(pb.PublishRequest(tenant="shop"))).version == 2
    back = await stub.Rollback(pb.KnowledgeRollbackRequest(tenant="shop", version=1))
    assert back.version == 3
    status = (await stub.Status(pb.TenantRef())).tenants[0]
    assert (status.version, status.items, status.expired, status.valid) == (3, 2, 2, 0)
    operator, viewer = Role.OPERATOR, Role.VIEWER
    assert needed == [operator, operator, viewer, operator, operator, operator, viewer]


@pytest.mark.parametrize(
    "requests",
    [
        [jsonl(LINE)],
        [header(), jsonl(b"not json\n")],
        [header(), jsonl(b"\xff\n")],
        [header()],
        [header(), jsonl(LINE + LINE)],
        [header(removals=["a"]), jsonl(LINE)],
        [header("X"), jsonl(LINE)],
        [header(), jsonl(LINE), header(), jsonl(LINE)],
        [header(), jsonl(LINE.replace(b"It is", b"\\ud800"))],
        [],
    ],
)
async def test_a_wrong_upload_stores_nothing(stub: KnowledgeStub, requests: list[pb.BuildRequest]) -> None:
    """Without a header, malformed, empty, twice the same."""
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.Build(iter(requests))
    assert not (await stub.Status(pb.TenantRef())).tenants


def _errors(base: type[ControlPlaneError]) -> Iterator[type[ControlPlaneError]]:
    for error in base.__subclasses__():
        yield error
        yield from _errors(error)


def test_every_error_says_what_to_do() -> None:
    """A code of its own and a hint."""
    ours = [error for error in _errors(ControlPlaneError) if error.__module__ == "controlplane.knowledge.errors"]
    assert len({error.code for error in ours}) == len(ours) == 6
    assert all(error.hint for error in ours)
