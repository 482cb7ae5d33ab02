"""The one door, over real mutual TLS: what a client sees of a bug, and what it cannot do."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import (
    AuditServicer,
    AuditStub,
    DocumentsStub,
    KnowledgeServicer,
    KnowledgeStub,
    add_AuditServicer_to_server,
    add_KnowledgeServicer_to_server,
)
from controlplane.admin.callers import CallContext, Role, require
from controlplane.admin.gate import Gate, HandlerCollector, Services
from controlplane.admin.revocation import RevocationList
from controlplane.admin.server import AdminAddress, admin_server
from controlplane.audit import AuditLog
from controlplane.database import HubDatabase
from controlplane.errors import DocumentsRefusedError
from tests.controlplane.certificates import Authority, Identity


class Faulty(AuditServicer):
    """Fails in every way."""

    async def List(self, request: pb.AuditRequest, context: CallContext) -> pb.AuditReply:  # noqa: N802
        raise RuntimeError("a secret of the hub")

    async def Verify(self, request: pb.AuditVerifyRequest, context: CallContext) -> pb.AuditVerifyReply:  # noqa: N802
        raise DocumentsRefusedError("x" * 100_000)


class Streamed(KnowledgeServicer):
    """Counts what a client streams."""

    async def Build(self, request_iterator: AsyncIterator[pb.BuildRequest], context: CallContext) -> pb.KnowledgeDiff:  # noqa: N802
        require(context, Role.OPERATOR)
        return pb.KnowledgeDiff(items=len([part async for part in request_iterator]))


class Door:
    """A gate that is open, and channels to it."""

    def __init__(self, gate: Gate, port: int, authority: Authority) -> None:
        self.gate = gate
        self._port = port
        self._authority = authority

    def channel(self, identity: Identity | None) -> grpc.aio.Channel:
        files = (identity.key.read_bytes(), identity.certificate.read_bytes()) if identity is not None else (None, None)
        credentials = grpc.ssl_channel_credentials(self._authority.ca.read_bytes(), *files)
        return grpc.aio.secure_channel(f"localhost:{self._port}", credentials)

    def person(self, name: str, role: str | None) -> grpc.aio.Channel:
        return self.channel(self._authority.issue(name, role))


@pytest.fixture
async def door(tmp_path: Path, database: HubDatabase) -> AsyncIterator[Door]:
    authority = Authority(tmp_path / "identity")
    own = authority.issue("hub-1", "controlplane")
    gate = Gate(RevocationList(None), lambda: "hub-2 at b:1", lambda _code: None)
    address = AdminAddress(host="127.0.0.1", port=0, authority=authority.ca, certificate=own.certificate, key=own.key)
    collector = HandlerCollector()
    add_AuditServicer_to_server(Faulty(), collector)
    add_KnowledgeServicer_to_server(Streamed(), collector)  # type: ignore[abstract]  # only Build is asked
    gate.open(Services(handlers=collector.handlers, audit=AuditLog(database)))
    async with admin_server(address, gate) as server:
        yield Door(gate, server.port, authority)


async def refusal(call: grpc.aio.UnaryUnaryCall) -> tuple[grpc.StatusCode, dict[str, str], str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    return error.code(), dict(error.trailing_metadata()), error.details() or ""


async def test_a_bug_tells_a_client_nothing_of_itself(door: Door) -> None:
    async with door.person("ada", "admin") as channel:
        status, metadata, details = await refusal(AuditStub(channel).List(pb.AuditRequest(), timeout=5))
    assert (status, metadata["borough-code"]) == (grpc.StatusCode.INTERNAL, "hub.internal")
    assert "secret" not in details


async def test_a_long_refusal_is_cut_so_that_it_arrives(door: Door) -> None:
    async with door.person("ada", "admin") as channel:
        status, metadata, details = await refusal(AuditStub(channel).Verify(pb.AuditVerifyRequest(), timeout=5))
    assert (status, metadata["borough-code"]) == (grpc.StatusCode.INVALID_ARGUMENT, "hub.documents_refused")
    assert len(details) < 6000


async def test_streamed_requests_pass_and_are_refused_alike(door: Door) -> None:
    parts = [pb.BuildRequest(jsonl=b"x" * 1000) for _ in range(50)]
    async with door.person("ada", "operator") as channel:
        assert (await KnowledgeStub(channel).Build(iter(parts), timeout=5)).items == 50
    async with door.person("vic", "viewer") as channel:
        status, _, _ = await refusal(KnowledgeStub(channel).Build(iter(parts), timeout=5))
    assert status is grpc.StatusCode.PERMISSION_DENIED
    door.gate.close()
    async with door.person("ada", "operator") as channel:
        status, _, details = await refusal(KnowledgeStub(channel).Build(iter(parts), timeout=5))
    assert (status, "hub-2 at b:1" in details) == (grpc.StatusCode.UNAVAILABLE, True)


async def test_a_service_that_is_not_served_is_unimplemented(door: Door) -> None:
    async with door.person("ada", "admin") as channel:
        status, _, _ = await refusal(DocumentsStub(channel).List(pb.ListRequest(), timeout=5))
    assert status is grpc.StatusCode.UNIMPLEMENTED


async def test_who_has_no_role_learns_nothing_not_even_who_is_active(door: Door) -> None:
    door.gate.close()
    async with door.person("node-1", "border") as channel:
        status, _, details = await refusal(AuditStub(channel).List(pb.AuditRequest(), timeout=5))
    assert (status, "hub-2" in details) == (grpc.StatusCode.UNAUTHENTICATED, False)


async def test_without_a_certificate_there_is_no_connection(door: Door) -> None:
    async with door.channel(None) as channel:
        status, metadata, _ = await refusal(AuditStub(channel).List(pb.AuditRequest(), timeout=5))
    assert (status, "borough-code" in metadata) == (grpc.StatusCode.UNAVAILABLE, False)
