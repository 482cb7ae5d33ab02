"""The authority as its own process: a real socket, a real store, certificates as openssl and nats-server want them."""

import asyncio
import json
import os
import signal
import socket as sockets
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from contract import authority_pb2 as pb
from contract.authority_pb2_grpc import AuthorityStub
from provisioning.identity.certificates import new_key, new_request
from provisioning.identity.names import NODE_ROLES, PersonName, PersonRole
from provisioning.identity.store import IdentityStore, State

WITHIN_S = 20.0
SITE, NODE = "in-south", "in-south-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """An authority that answers."""

    stub: AuthorityStub
    store: IdentityStore
    socket: Path
    log: Path
    process: asyncio.subprocess.Process
    metrics_port: int

    def audit(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    async def refusal(self, method: str, request: object) -> tuple[grpc.StatusCode, str, str]:
        """Status, code and message of an error."""
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await getattr(self.stub, method)(request, timeout=WITHIN_S)
        metadata = dict(refused.value.trailing_metadata() or ())
        return refused.value.code(), str(metadata["borough-code"]), refused.value.details() or ""


def _free_port() -> int:
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def authority(tmp_path: Path) -> AsyncIterator[Running]:
    store, port, path = IdentityStore(tmp_path / "identity"), _free_port(), tmp_path / "authority.sock"
    store.init(datetime.now(UTC))
    config = tmp_path / "authority.toml"
    config.write_text(
        f'[authority]\nstore = "{store.root}"\nsocket = "{path}"\n[metrics]\nport = {port}\n', encoding="utf-8"
    )
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "provisioning.identity.authority_service", "--config", str(config)),
            stderr=output,
        )
    try:
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            stub = AuthorityStub(channel)
            await stub.Roster(pb.RosterRequest(), timeout=WITHIN_S, wait_for_ready=True)
            yield Running(stub=stub, store=store, socket=path, log=log, process=process, metrics_port=port)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(WITHIN_S):
            assert await process.wait() == 0, log.read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _order(role: str, *, key: ec.EllipticCurvePrivateKey | None = None, **given: object) -> pb.Order:
    addresses = ["10.20.0.11", "node.example"] if role in {"server", "metrics", "inference"} else []
    order = pb.Order(role=role, csr_der=new_request(key or new_key(), "anybody"), addresses=addresses)
    order.MergeFrom(pb.Order(**given))  # type: ignore[arg-type]  # fields by name
    return order


def _all() -> pb.SignRequest:
    return pb.SignRequest(site=SITE, node=NODE, orders=[_order(role) for role in NODE_ROLES])


async def test_a_node_gets_all_its_certificates_at_once(authority: Running) -> None:
    """Signed by the authority for the node's own keys; names are the request's, not those in the CSR."""
    key = new_key()
    orders = [_order(role, key=key if role == "server" else None) for role in NODE_ROLES]
    reply = await authority.stub.Sign(pb.SignRequest(site=SITE, node=NODE, orders=orders), timeout=WITHIN_S)
    assert [(made.role, made.generation, made.state) for made in reply.certificates] == [
        (role, 1, pb.CERTIFICATE_STATE_CURRENT) for role in NODE_ROLES
    ]
    root = x509.load_pem_x509_certificate(reply.authority_pem)
    for made in reply.certificates:
        certificate = x509.load_pem_x509_certificate(made.certificate_pem)
        certificate.verify_directly_issued_by(root)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == [made.uri]
        assert certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == NODE
    server = x509.load_pem_x509_certificate(reply.certificates[0].certificate_pem)
    assert server.public_key() == key.public_key()
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["node.example"]
    assert not list(authority.store.root.glob(f"{SITE}/**/key.pem"))


async def test_renewed_certificates_are_valid_beside_the_current_ones_until_switched(authority: Running) -> None:
    """Staged, then current; the old ones retire in the same step."""
    await authority.stub.Sign(_all(), timeout=WITHIN_S)
    staged = await authority.stub.Sign(_all(), timeout=WITHIN_S)
    assert {made.state for made in staged.certificates} == {pb.CERTIFICATE_STATE_STAGED}
    roster = await authority.stub.Roster(pb.RosterRequest(site=SITE), timeout=WITHIN_S)
    assert [len(role.certificates) for role in roster.nodes[0].roles] == [2] * len(NODE_ROLES)
    assert await authority.refusal("Sign", _all()) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "identity.staged",
        "in-south/in-south-1/server has a staged certificate already",
    )
    switched = await authority.stub.Switch(pb.SwitchRequest(site=SITE, node=NODE), timeout=WITHIN_S)
    states = [made.state for made in switched.certificates]
    assert states.count(pb.CERTIFICATE_STATE_CURRENT) == states.count(pb.CERTIFICATE_STATE_RETIRED) == len(NODE_ROLES)
    roster = await authority.stub.Roster(pb.RosterRequest(site=SITE), timeout=WITHIN_S)
    assert [[c.generation for c in role.certificates] for role in roster.nodes[0].roles] == [[2]] * len(NODE_ROLES)


async def test_staged_certificates_can_be_withdrawn(authority: Running) -> None:
    """A node that lost the keys asks again; nothing else of it changes."""
    await authority.stub.Sign(_all(), timeout=WITHIN_S)
    await authority.stub.Sign(_all(), timeout=WITHIN_S)
    one = pb.RetireRequest(site=SITE, node=NODE, staged=[pb.Generation(role="agent", generation=2)])
    assert [made.role for made in (await authority.stub.Retire(one, timeout=WITHIN_S)).certificates] == ["agent"]
    rest = await authority.stub.Retire(pb.RetireRequest(site=SITE, node=NODE), timeout=WITHIN_S)
    assert len(rest.certificates) == len(NODE_ROLES) - 1
    again = await authority.stub.Sign(_all(), timeout=WITHIN_S)
    assert {made.generation for made in again.certificates} == {3}
    status, code, _ = await authority.refusal("Switch", pb.SwitchRequest(site=SITE, node="in-south-2"))
    assert (status, code) == (grpc.StatusCode.NOT_FOUND, "identity.missing")


async def test_a_revoked_node_is_valid_no_more_and_may_be_signed_for_anew(authority: Running) -> None:
    """For a rebuilt machine of the same name; revoking nobody is no error."""
    await authority.stub.Sign(_all(), timeout=WITHIN_S)
    revoked = await authority.stub.Revoke(pb.RevokeRequest(site=SITE, node=NODE), timeout=WITHIN_S)
    assert len(revoked.certificates) == len(NODE_ROLES)
    serials = json.loads(authority.store.revoked_file.read_text())["serials"]
    assert set(serials) == {made.serial for made in revoked.certificates}
    assert not (await authority.stub.Roster(pb.RosterRequest(), timeout=WITHIN_S)).nodes
    assert not (await authority.stub.Revoke(pb.RevokeRequest(site=SITE, node=NODE), timeout=WITHIN_S)).certificates
    again = await authority.stub.Sign(_all(), timeout=WITHIN_S)
    assert {(made.generation, made.state) for made in again.certificates} == {(2, pb.CERTIFICATE_STATE_CURRENT)}


def _rsa_request() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _p384_request() -> bytes:
    return new_request(ec.generate_private_key(ec.SECP384R1()), "x")


def _broken_signature() -> bytes:
    request = bytearray(new_request(new_key(), "x"))
    request[-5] ^= 0xFF
    return bytes(request)


def _refusals() -> list[tuple[pb.SignRequest, str]]:
    return [
        (pb.SignRequest(site=SITE, node=NODE), "identity.request"),
        (pb.SignRequest(site=SITE, node=NODE, orders=[_order("agent"), _order("agent")]), "identity.request"),
        (pb.SignRequest(site=SITE, node=NODE, orders=[_order("controlplane")]), "identity.name"),
        (pb.SignRequest(site=SITE, node=NODE, orders=[_order("admin")]), "identity.name"),
        (pb.SignRequest(site="hub", node="hub-1", orders=[_order("system")]), "identity.name"),
        (pb.SignRequest(site="In South", node=NODE, orders=[_order("agent")]), "identity.name"),
        (pb.SignRequest(site=SITE, node="in-south-1/agent", orders=[_order("agent")]), "identity.name"),
        (pb.SignRequest(site=SITE, node="../../x", orders=[_order("agent")]), "identity.name"),
        (pb.SignRequest(site=SITE, node=NODE, orders=[_order("agent", addresses=["10.0.0.1"])]), "identity.request"),
        (
            pb.SignRequest(site=SITE, node=NODE, orders=[pb.Order(role="server", csr_der=new_request(new_key(), "x"))]),
            "identity.request",
        ),
        (pb.SignRequest(site=SITE, node=NODE, orders=[_order("server", addresses=["a b"])]), "identity.request"),
        (pb.SignRequest(site=SITE, node=NODE, orders=[_order("server", addresses=["*.example"])]), "identity.request"),
        (pb.SignRequest(site=SITE, node=NODE, orders=[_order("server", addresses=["a"] * 9)]), "identity.request"),
        (pb.SignRequest(site=SITE, node=NODE, orders=[_order("agent", generation=2)]), "identity.request"),
        (pb.SignRequest(site=SITE, node=NODE, orders=[_order("agent", csr_der=b"no")]), "identity.request"),
        (pb.SignRequest(site=SITE, node=NODE, orders=[_order("agent", csr_der=b"0" * 9000)]), "identity.request"),
        (pb.SignRequest(site=SITE, node=NODE, orders=[_order("agent", csr_der=_rsa_request())]), "identity.request"),
        (pb.SignRequest(site=SITE, node=NODE, orders=[_order("agent", csr_der=_p384_request())]), "identity.request"),
        (
            pb.SignRequest(site=SITE, node=NODE, orders=[_order("agent", csr_der=_broken_signature())]),
            "identity.request",
        ),
    ]


async def test_what_may_not_be_signed_is_refused_and_audited(authority: Running) -> None:
    """Nothing is signed then, also not the orders that would have been all right."""
    for request, code in _refusals():
        refused = pb.SignRequest(site=request.site, node=request.node, orders=[_order("leaf"), *request.orders])
        if not request.orders:
            refused.ClearField("orders")
        status, found, message = await authority.refusal("Sign", refused)
        assert (status, found) == (grpc.StatusCode.INVALID_ARGUMENT, code), message
        assert authority.store.entries() == []
        assert authority.audit()[-1]["event"] == "authority_refused"
        assert authority.audit()[-1]["code"] == code


async def test_one_key_has_one_name(authority: Running) -> None:
    """Neither another role nor another node nor a later generation may have it."""
    key = new_key()
    request = pb.SignRequest(site=SITE, node=NODE, orders=[_order("agent", key=key)])
    await authority.stub.Sign(request, timeout=WITHIN_S)
    for other in (
        pb.SignRequest(site=SITE, node=NODE, orders=[_order("agent", key=key)]),
        pb.SignRequest(site=SITE, node=NODE, orders=[_order("leaf", key=key)]),
        pb.SignRequest(site=SITE, node="in-south-2", orders=[_order("agent", key=key)]),
    ):
        _, code, message = await authority.refusal("Sign", other)
        assert code == "identity.request"
        assert "certified before" in message


async def test_every_change_is_an_audit_line_and_counted(authority: Running) -> None:
    """Who, what, which serial numbers."""
    reply = await authority.stub.Sign(_all(), timeout=WITHIN_S)
    changed = [line for line in authority.audit() if line["event"] == "authority_changed"]
    assert [(line["action"], line["site"], line["node"]) for line in changed] == [("sign", SITE, NODE)]
    assert reply.certificates[0].serial in str(changed[0]["certificates"])
    reader, writer = await asyncio.open_connection("127.0.0.1", authority.metrics_port)
    writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
    async with asyncio.timeout(WITHIN_S):
        page = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    assert 'borough_authority_requests_total{code="ok",method="Sign"} 1.0' in page
    assert f'borough_authority_certificates{{state="current"}} {len(NODE_ROLES)}.0' in page


async def test_the_socket_is_closed_to_others(authority: Running) -> None:
    """The group of its folder may use it, nobody else."""
    assert stat.S_IMODE(authority.socket.stat().st_mode) == 0o660


async def test_requests_at_once_get_generations_of_their_own(authority: Running) -> None:
    """The index loses nothing."""
    nodes = [f"in-south-{number}" for number in range(1, 9)]
    requests = [pb.SignRequest(site=SITE, node=node, orders=[_order("agent"), _order("leaf")]) for node in nodes]
    await asyncio.gather(*(authority.stub.Sign(request, timeout=WITHIN_S) for request in requests))
    entries = authority.store.entries()
    assert len(entries) == 2 * len(nodes)
    assert all(entry.state is State.CURRENT and entry.generation == 1 for entry in entries)


async def test_people_are_issued_by_root_meanwhile(authority: Running) -> None:
    """The command line and the service share the index; people are in no roster."""
    await authority.stub.Sign(_all(), timeout=WITHIN_S)
    authority.store.issue(PersonName(name="ana", role=PersonRole.ADMIN), datetime.now(UTC))
    roster = await authority.stub.Roster(pb.RosterRequest(), timeout=WITHIN_S)
    assert [(node.site, node.node) for node in roster.nodes] == [(SITE, NODE)]
    assert len(authority.store.entries()) == len(NODE_ROLES) + 1


def test_what_root_writes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    """Else the service could not read the index after `borough identity issue`."""
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    folder = tmp_path / "identity"
    folder.mkdir()
    os.chown(folder, 12345, 12346)
    store = IdentityStore(folder)
    store.init(datetime.now(UTC))
    store.issue(PersonName(name="ana", role=PersonRole.ADMIN), datetime.now(UTC))
    assert {(path.stat().st_uid, path.stat().st_gid) for path in folder.rglob("*") if not path.is_symlink()} == {
        (12345, 12346)
    }


@pytest.mark.parametrize("text", ["", "[authority]\n", '[authority]\nstore = "/nonexistent"\nsocket = "s"\n'])
def test_it_does_not_start_without_a_store_or_settings(tmp_path: Path, text: str) -> None:
    """Exit status 78: systemd lets it lie until an operator has mended it."""
    config = tmp_path / "authority.toml"
    config.write_text(text + ("[metrics]\nport = 0\n" if "store" in text else ""))
    done = subprocess.run(
        [sys.executable, "-m", "provisioning.identity.authority_service", "--config", str(config)],
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 78
    assert b"hint" in done.stderr
