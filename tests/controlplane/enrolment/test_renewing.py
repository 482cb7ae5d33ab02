"""Nodes renew: new certificates beside the old, known everywhere before they are used, the old ones gone afterwards."""

from datetime import UTC, datetime, timedelta

import grpc
import pytest

from contract import enrolment_pb2 as pb
from contract.enrolment_pb2_grpc import EnrolmentStub
from tests.controlplane.enrolment.machines import REGION, ROLES, WITHIN_S, EnrollingHub, Machine, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def enrolled(hub: EnrollingHub, name: str, address: str) -> Machine:
    machine = Machine(hub=hub, name=name, address=address)
    await machine.enroll(await hub.token())
    return machine


async def uris_in_stream(hub: EnrollingHub, name: str, version: int) -> set[str]:
    """What servers let in as the node's agent, by the newest bundle."""
    _, roster = await hub.roster_in_stream(at_least=version)
    node = next(one for one in roster.nodes if one.name == name)
    return {uri for identity in node.identities if identity.role == "agent" for uri in identity.uris}


def uri(name: str, generation: int) -> str:
    return f"borough://{REGION}/{name}/agent/{generation}"


async def test_both_generations_are_known_until_the_node_confirms(enrolling: EnrollingHub) -> None:
    machine = await enrolled(enrolling, "renewed-1", "10.2.0.1")
    old = machine.as_before()
    reply = await machine.renew()
    assert {one.generation for one in reply.certificates} == {2}
    both = {uri("renewed-1", 1), uri("renewed-1", 2)}
    assert await uris_in_stream(enrolling, "renewed-1", reply.bundle_version) == both
    async with refused("enrolment.not_switched"):
        await old.confirm()
    assert (await enrolling.audited(1))[0][1:] == (f"{uri('renewed-1', 1)} from 127.0.0.1", "enrolment.not_switched")
    confirmed = await machine.confirm()
    assert await uris_in_stream(enrolling, "renewed-1", confirmed.bundle_version) == {uri("renewed-1", 2)}
    assert (await enrolling.audited(1))[0][0] == "enrolment.confirm"
    again = await machine.confirm()
    assert again.bundle_version == confirmed.bundle_version
    async with refused("enrolment.node_unknown"):
        await old.renew()


async def test_a_node_that_lost_its_new_keys_renews_again(enrolling: EnrollingHub) -> None:
    """What was staged is withdrawn: nobody can come with it."""
    machine = await enrolled(enrolling, "forgetful-1", "10.2.0.2")
    first, lost = machine.as_before(), machine.as_before()
    await lost.renew()
    second = first.as_before()
    reply = await second.renew()
    assert {one.generation for one in reply.certificates} == {3}
    assert await uris_in_stream(enrolling, "forgetful-1", reply.bundle_version) == {
        uri("forgetful-1", 1),
        uri("forgetful-1", 3),
    }
    async with refused("enrolment.node_unknown"):
        await lost.confirm()


async def test_to_renew_with_the_new_certificate_confirms_it_first(enrolling: EnrollingHub) -> None:
    machine = await enrolled(enrolling, "hasty-1", "10.2.0.3")
    await machine.renew()
    reply = await machine.renew()
    assert await uris_in_stream(enrolling, "hasty-1", reply.bundle_version) == {uri("hasty-1", 2), uri("hasty-1", 3)}


async def test_only_the_agent_speaks_for_its_node(enrolling: EnrollingHub) -> None:
    machine = await enrolled(enrolling, "only-1", "10.2.0.4")
    for role in set(ROLES) - {"agent"}:
        async with refused("enrolment.node_unknown"), machine.as_node(role) as stub:
            await stub.Confirm(pb.ConfirmRequest(), timeout=WITHIN_S)


async def test_a_person_is_no_node(enrolling: EnrollingHub) -> None:
    root = enrolling.hub.identity("root", "admin")
    credentials = grpc.ssl_channel_credentials(
        enrolling.store.authority_file.read_bytes(), root.key.read_bytes(), root.certificate.read_bytes()
    )
    address = f"127.0.0.1:{enrolling.renewal_port}"
    async with grpc.aio.secure_channel(address, credentials) as channel, refused("enrolment.node_unknown"):
        await EnrolmentStub(channel).Renew(pb.RenewRequest(requests=Machine(hub=enrolling).requests()), timeout=5)
    assert (await enrolling.audited(1))[0] == ("enrolment.renew", "? from 127.0.0.1", "enrolment.node_unknown")


async def test_the_renewal_port_lets_in_nobody_without_a_certificate(enrolling: EnrollingHub) -> None:
    credentials = grpc.ssl_channel_credentials(enrolling.store.authority_file.read_bytes())
    async with grpc.aio.secure_channel(f"127.0.0.1:{enrolling.renewal_port}", credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await EnrolmentStub(channel).Confirm(pb.ConfirmRequest(), timeout=5)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_the_enrolment_port_knows_no_node(enrolling: EnrollingHub) -> None:
    """It asks for no certificate, so that nobody can renew there."""
    machine = await enrolled(enrolling, "lost-1", "10.2.0.5")
    channel = machine._channel(enrolling.port, b"", b"")
    async with channel, refused("enrolment.node_unknown"):
        await EnrolmentStub(channel).Confirm(pb.ConfirmRequest(), timeout=5)


async def test_a_node_may_ask_who_belongs_to_its_region(enrolling: EnrollingHub) -> None:
    """It hears of one that enrolled after it, before any bundle could reach it; nothing changes by that."""
    early = await enrolled(enrolling, "early-1", "10.2.0.9")
    await enrolled(enrolling, "later-1", "10.2.0.10")
    before = await enrolling.audited(1)
    async with early.as_node() as stub:
        reply = await stub.Members(pb.MembersRequest(), timeout=WITHIN_S)
    assert {"early-1", "later-1"} <= {node.name for node in reply.roster.nodes}
    assert (await enrolling.roster_in_stream(at_least=reply.bundle_version))[1] == reply.roster
    assert await enrolling.audited(1) == before
    async with refused("enrolment.node_unknown"), early.as_node("leaf") as stub:
        await stub.Members(pb.MembersRequest(), timeout=WITHIN_S)


async def test_what_is_revoked_at_the_hub_leaves_the_roster(enrolling: EnrollingHub) -> None:
    """An operator revoked by hand, without the fleet's commands: the next look tells all nodes."""
    machine = await enrolled(enrolling, "handmade-1", "10.2.0.6")
    enrolling.store.revoke(f"{REGION}/handmade-1/leaf")
    other = Machine(hub=enrolling, name="handmade-2", address="10.2.0.7")
    reply = await other.enroll(await enrolling.token())
    node = next(one for one in reply.roster.nodes if one.name == machine.name)
    assert "leaf" not in {identity.role for identity in node.identities}


async def test_the_status_says_when_certificates_end(enrolling: EnrollingHub) -> None:
    await enrolled(enrolling, "dated-1", "10.2.0.8")
    status = await enrolling.node_status("dated-1")
    assert status is not None
    ends = datetime.fromtimestamp(int(str(status["certificates_until_ms"])) / 1000, UTC)
    assert timedelta(days=179) < ends - datetime.now(UTC) < timedelta(days=181)
