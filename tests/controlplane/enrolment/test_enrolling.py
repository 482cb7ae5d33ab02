"""Machines enrol with a real hub, authority and NATS; whoever brings a wrong token is refused and audited."""

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable

import grpc
import pytest

from contract import enrolment_pb2 as pb
from contract.downlink_pb2 import NODE_STATE_ACTIVE
from provisioning.identity.certificates import new_key, new_request
from tests.controlplane.enrolment.machines import (
    OTHER_REGION,
    REGION,
    ROLES,
    EnrollingHub,
    Machine,
    enrolling_hub,
    refused,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
OK = "ok"


async def test_a_machine_becomes_a_node_and_its_region_learns_of_it(enrolling: EnrollingHub) -> None:
    """Certificates for its own keys, what to trust, and a bundle with the roster, which the reply names."""
    machine = Machine(hub=enrolling, name="first-1", address="10.1.0.1")
    before, _ = await enrolling.roster_in_stream()
    reply = await machine.enroll(await enrolling.token())
    assert {one.role for one in reply.certificates} == set(ROLES)
    for one in reply.certificates:
        assert machine.subject(one.role).public_key() == machine.keys[one.role].public_key()
        assert one.uri == f"borough://{REGION}/first-1/{one.role}/1"
    assert reply.authority_pem == enrolling.store.authority_file.read_bytes()
    assert reply.signing_public_pem == enrolling.store.signing_public_file.read_bytes()
    version, roster = await enrolling.roster_in_stream(at_least=reply.bundle_version)
    assert version == reply.bundle_version > before
    assert roster == reply.roster
    assert (roster.hub.node, roster.hub.address, roster.hub.leaf_port) == ("hub-1", "10.0.0.1", 7422)
    node = next(one for one in roster.nodes if one.name == "first-1")
    assert (node.address, node.state) == ("10.1.0.1", NODE_STATE_ACTIVE)
    assert {identity.role: list(identity.pins) for identity in node.identities} == {
        one.role: [one.pin] for one in reply.certificates
    }
    assert (await enrolling.roster_in_stream(OTHER_REGION))[1].nodes == []
    assert ("enrolment.enroll", OK) in [(action, outcome) for action, _, outcome in await enrolling.audited(3)]
    status = await enrolling.node_status("first-1")
    assert status is not None
    assert (status["state"], status["address"], status["is_silent"]) == ("NODE_STATE_ACTIVE", "10.1.0.1", True)


Present = Callable[[EnrollingHub, Machine], Awaitable[object]]


async def unknown(hub: EnrollingHub, machine: Machine) -> object:
    """The right id, and another secret."""
    prefix, token_id, _, fingerprint = (await hub.token()).split(".")
    return await machine.enroll(f"{prefix}.{token_id}.{'A' * 43}.{fingerprint}")


async def malformed(_: EnrollingHub, machine: Machine) -> object:
    return await machine.enroll("let me in")


async def of_another_hub(hub: EnrollingHub, machine: Machine) -> object:
    return await machine.enroll((await hub.token())[:-32] + "0" * 32)


async def of_another_region(hub: EnrollingHub, machine: Machine) -> object:
    return await machine.enroll(await hub.token(region=OTHER_REGION))


async def of_another_node(hub: EnrollingHub, machine: Machine) -> object:
    return await machine.enroll(await hub.token("--node", "somebody-else"))


async def expired(hub: EnrollingHub, machine: Machine) -> object:
    token = await hub.token("--ttl", "1")
    await asyncio.sleep(1.1)
    return await machine.enroll(token)


async def revoked(hub: EnrollingHub, machine: Machine) -> object:
    token = await hub.token()
    taken_back = await hub.hub.run("token", "revoke", token.split(".")[1], role="admin", person="root")
    assert taken_back.exit_code == 0, taken_back.output
    return await machine.enroll(token)


async def used(hub: EnrollingHub, machine: Machine) -> object:
    """The same machine comes again: it is told so, no more."""
    token = await hub.token()
    await machine.enroll(token)
    return await machine.enroll(token)


async def stolen(hub: EnrollingHub, machine: Machine) -> object:
    """Another machine used it for itself before its owner came."""
    token = await hub.token()
    await Machine(hub=hub, name="thief-1", address="10.1.9.9").enroll(token)
    return await machine.enroll(token)


async def replayed_from_elsewhere(hub: EnrollingHub, machine: Machine) -> object:
    """The same name, from another address."""
    token = await hub.token()
    await Machine(hub=hub, name=machine.name, address=machine.address, host="[::1]").enroll(token)
    return await machine.enroll(token)


REFUSED: list[tuple[Present, str]] = [
    (unknown, "token_unknown"),
    (malformed, "token_unknown"),
    (of_another_hub, "token_foreign"),
    (of_another_region, "token_foreign"),
    (of_another_node, "token_foreign"),
    (expired, "token_expired"),
    (revoked, "token_revoked"),
    (used, "token_used"),
    (stolen, "token_stolen"),
    (replayed_from_elsewhere, "token_stolen"),
]


@pytest.mark.parametrize(("present", "reason"), REFUSED, ids=[present.__name__ for present, _ in REFUSED])
async def test_a_wrong_token_gets_nothing_and_is_audited(
    enrolling: EnrollingHub, present: Present, reason: str
) -> None:
    number = [case for case, _ in REFUSED].index(present)
    machine = Machine(hub=enrolling, name=f"{present.__name__.replace('_', '-')}", address=f"10.1.1.{number + 1}")
    async with refused(f"enrolment.{reason}"):
        await present(enrolling, machine)
    action, target, outcome = (await enrolling.audited(1))[0]
    assert (action, outcome) == ("enrolment.enroll", f"enrolment.{reason}")
    assert target.startswith(f"{REGION}/{machine.name} token ")
    assert target.endswith((" from 127.0.0.1", " from ::/64"))
    has_one = present in {used, replayed_from_elsewhere}
    assert len(enrolling.entries(machine.name)) == (len(ROLES) if has_one else 0)


async def test_of_many_that_bring_one_token_at_once_one_enrols(enrolling: EnrollingHub) -> None:
    token = await enrolling.token()
    machines = [Machine(hub=enrolling, name=f"race-{index}", address=f"10.1.2.{index}") for index in range(1, 7)]
    replies = await asyncio.gather(*(machine.enroll(token) for machine in machines), return_exceptions=True)
    assert sum(isinstance(reply, pb.EnrollReply) for reply in replies) == 1
    assert sum(isinstance(reply, grpc.aio.AioRpcError) for reply in replies) == 5
    assert sum(bool(enrolling.entries(machine.name)) for machine in machines) == 1
    outcomes = [outcome for action, _, outcome in await enrolling.audited(6) if action == "enrolment.enroll"]
    assert sorted(outcomes) == ["enrolment.token_stolen"] * 5 + [OK]


async def test_a_name_is_one_machine_until_an_admin_says_that_it_was_rebuilt(enrolling: EnrollingHub) -> None:
    """The rebuilt node gets new certificates, and those of the lost one are revoked."""
    lost = Machine(hub=enrolling, name="rebuilt-1", address="10.1.3.1")
    await lost.enroll(await enrolling.token())
    fresh = Machine(hub=enrolling, name="rebuilt-1", address="10.1.3.2")
    async with refused("enrolment.name_taken"):
        await fresh.enroll(await enrolling.token())
    denied = await enrolling.hub.run("token", "create", REGION, "--node", "rebuilt-1", role="admin", person="root")
    assert (denied.exit_code, "enrolment.name_taken" in denied.stderr) == (1, True)
    reply = await fresh.enroll(await enrolling.token("--node", "rebuilt-1", "--replace"))
    assert {one.generation for one in reply.certificates} == {2}
    states = {(entry.generation, str(entry.state)) for entry in enrolling.entries("rebuilt-1")}
    assert states == {(1, "revoked"), (2, "current")}
    node = next(one for one in reply.roster.nodes if one.name == "rebuilt-1")
    assert node.address == "10.1.3.2"
    assert all(len(identity.uris) == 1 for identity in node.identities)
    async with refused("enrolment.node_unknown"):
        await lost.renew()


def twice_the_same_key() -> list[pb.CertificateRequest]:
    csr = new_request(new_key(), "x")
    return [pb.CertificateRequest(role=role, csr_der=csr) for role in ("agent", "leaf")]


def wrong_signature() -> list[pb.CertificateRequest]:
    csr = bytearray(new_request(new_key(), "x"))
    csr[-1] ^= 1
    return [pb.CertificateRequest(role="agent", csr_der=bytes(csr))]


BAD_REQUESTS: list[tuple[str, list[pb.CertificateRequest], str]] = [
    ("none", [], "enrolment.request"),
    ("no request", [pb.CertificateRequest(role="agent", csr_der=b"\x30\x03abc")], "enrolment.request"),
    ("one key for two", twice_the_same_key(), "enrolment.request"),
    ("wrong signature", wrong_signature(), "enrolment.request"),
    ("no agent", [pb.CertificateRequest(role="leaf", csr_der=new_request(new_key(), "x"))], "enrolment.request"),
    (
        "the hub's role",
        [pb.CertificateRequest(role=role, csr_der=new_request(new_key(), "x")) for role in ("agent", "controlplane")],
        "identity.name",
    ),
]


@pytest.mark.parametrize(
    ("requests", "code"), [case[1:] for case in BAD_REQUESTS], ids=[case[0] for case in BAD_REQUESTS]
)
async def test_a_bad_request_is_refused_and_the_token_stays_good(
    enrolling: EnrollingHub, requests: list[pb.CertificateRequest], code: str
) -> None:
    number = [case[1] for case in BAD_REQUESTS].index(requests)
    machine = Machine(hub=enrolling, name=f"bad-{number}", address=f"10.1.4.{number + 1}")
    token = await enrolling.token()
    async with refused(code):
        await machine.enroll(token, requests=requests)
    assert (await enrolling.audited(1))[0][2] == code
    assert len((await machine.enroll(token)).certificates) == len(ROLES)


@pytest.mark.parametrize("address", ["", "127.0.0.1", "::", "10.1.0.1:4222", "no good", "224.0.0.1", "10.1.5.1"])
async def test_an_address_that_siblings_could_not_reach_is_refused(enrolling: EnrollingHub, address: str) -> None:
    """Also one that is another node's."""
    if address == "10.1.5.1" and not enrolling.entries("owner-1"):
        await Machine(hub=enrolling, name="owner-1", address=address).enroll(await enrolling.token())
    async with refused("enrolment.address"):
        await Machine(hub=enrolling, name="addressed-1", address=address).enroll(await enrolling.token())


async def test_without_the_authority_nobody_enrols_and_no_token_is_lost(enrolling: EnrollingHub) -> None:
    machine, token = Machine(hub=enrolling, name="patient-1", address="10.1.6.1"), await enrolling.token()
    await enrolling.stop_authority()
    async with refused("hub.authority_unavailable"):
        await machine.enroll(token)
    assert (await enrolling.audited(1))[0][2] == "hub.authority_unavailable"
    await enrolling.start_authority()
    async with asyncio.timeout(10):
        while not machine.certificates:
            with contextlib.suppress(grpc.aio.AioRpcError):  # the connection to its socket is made again after a pause
                await machine.enroll(token)
            await asyncio.sleep(0.2)
    assert len(machine.certificates) == len(ROLES)


async def test_secrets_of_tokens_are_nowhere(enrolling: EnrollingHub) -> None:
    """Neither in the hub's database nor in its log."""
    token = await enrolling.token()
    await Machine(hub=enrolling, name="secretive-1", address="10.1.7.1").enroll(token)
    secret = token.split(".")[2]
    with sqlite3.connect(enrolling.hub.directory / "hub.sqlite3") as database:
        dumped = "".join(str(row) for row in database.execute("SELECT * FROM node_tokens"))
        assert token.split(".")[1] in dumped
        assert secret not in "".join(database.iterdump())
    assert secret not in enrolling.hub.log("hub-1")


async def test_tokens_are_for_admins(enrolling: EnrollingHub) -> None:
    for arguments in (("create", REGION), ("list",), ("revoke", "0" * 12)):
        denied = await enrolling.hub.run("token", *arguments, role="operator", person="ada")
        assert (denied.exit_code, "hub.not_allowed" in denied.stderr) == (1, True)
    nowhere = await enrolling.hub.run("token", "create", "nowhere", role="admin", person="root")
    assert "hub.region_unknown" in nowhere.stderr
    missing = await enrolling.hub.run("token", "revoke", "0" * 12, role="admin", person="root")
    assert "hub.token_not_found" in missing.stderr


async def test_the_audit_log_is_whole_after_all_this(enrolling: EnrollingHub) -> None:
    result = await enrolling.hub.run("admin", "audit", "verify", role="admin", person="root")
    assert (result.exit_code, "the chain is whole" in result.stdout) == (0, True)


async def test_a_source_that_failed_too_often_is_barred(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Even with a good token; one entry says so, the rest is counted only."""
    async with enrolling_hub(tmp_path_factory.mktemp("barred"), failures=3) as hub:
        good = await hub.token()
        for index in range(6):
            async with refused("enrolment.token_unknown" if index < 3 else "enrolment.too_many_attempts"):
                await Machine(hub=hub).enroll("bo1." + "0" * 12 + "." + "A" * 43 + "." + good[-32:])
        async with refused("enrolment.too_many_attempts"):
            await Machine(hub=hub).enroll(good)
        told = [(action, outcome) for action, _, outcome in await hub.audited() if action.startswith("enrolment.")]
        assert told == [
            ("enrolment.barred", "enrolment.too_many_attempts"),
            *[("enrolment.enroll", "enrolment.token_unknown")] * 3,
        ]
