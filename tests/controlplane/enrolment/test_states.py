"""Nodes in and out of rotation, and out of their region: by commands, through the roster, to what nodes say."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from google.protobuf.json_format import Parse

from contract.downlink_pb2 import (
    NODE_STATE_ACTIVE,
    NODE_STATE_CORDONED,
    NODE_STATE_DRAINING,
    NODE_STATE_REMOVED,
    NodeState,
    Roster,
    RosterNode,
)
from edge.sync.bundle import BundleReader
from edge.sync.cordon import Cordon
from edge.sync.folder import SyncFolder
from edge.sync.verification import TrustedKeys
from tests.controlplane.enrolment.machines import REGION, EnrollingHub, Machine, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def enrolled(hub: EnrollingHub, name: str, address: str) -> Machine:
    machine = Machine(hub=hub, name=name, address=address)
    await machine.enroll(await hub.token())
    return machine


async def in_stream(hub: EnrollingHub, name: str, version: int) -> RosterNode:
    _, roster = await hub.roster_in_stream(at_least=version)
    return next(one for one in roster.nodes if one.name == name)


@asynccontextmanager
async def speaking_node(hub: EnrollingHub, name: str, calls_end_after_s: float) -> AsyncIterator[None]:
    """An agent that follows the newest bundle, and a call that ends by itself."""
    began = time.monotonic()

    async def speak() -> None:
        while True:
            version, roster = await hub.roster_in_stream()
            node = next(one for one in roster.nodes if one.name == name)
            await hub.tell_health(
                name,
                calls=int(time.monotonic() - began < calls_end_after_s),
                is_cordoned=node.state != NODE_STATE_ACTIVE,
                bundle_version=version,
            )
            await asyncio.sleep(0.1)

    speaking = asyncio.ensure_future(speak())
    try:
        yield
    finally:
        speaking.cancel()
        with suppress(asyncio.CancelledError):
            await speaking


@pytest.mark.parametrize(
    ("command", "state"), [("cordon", NODE_STATE_CORDONED), ("drain", NODE_STATE_DRAINING)], ids=["cordon", "drain"]
)
async def test_a_state_goes_out_with_a_bundle_of_its_own_and_back(
    enrolling: EnrollingHub, command: str, state: NodeState.ValueType
) -> None:
    name = f"{command}-1"
    await enrolled(enrolling, name, f"10.3.0.{state}")
    options = ["--deadline", "0"] if command == "drain" else []
    _, report = await enrolling.fleet(command, name, *options)
    assert (report["before"], report["region"]) == ("active", REGION)
    assert (await in_stream(enrolling, name, int(str(report["bundle_version"])))).state == state
    status = await enrolling.node_status(name)
    assert status is not None
    assert status["state"] == NodeState.Name(state)
    _, twice = await enrolling.fleet(command, name, *options)
    assert twice["bundle_version"] == report["bundle_version"]
    code, back = await enrolling.fleet("uncordon", name)
    assert (code, back["state"]) == (0, "active")
    assert (await in_stream(enrolling, name, int(str(back["bundle_version"])))).state == NODE_STATE_ACTIVE
    told = [(action, target) for action, target, _ in await enrolling.audited(3) if action == "fleet.set_state"]
    assert told[0] == ("fleet.set_state", f"{REGION}/{name} active")


async def test_a_node_reads_what_the_hub_wrote(enrolling: EnrollingHub, tmp_path: Path) -> None:
    """The same roster, and whether it is meant to take calls."""
    await enrolled(enrolling, "reader-1", "10.3.4.1")
    private = load_pem_private_key((enrolling.hub.directory / "signing.pem").read_bytes(), password=None)
    public = private.public_key()
    assert isinstance(public, Ed25519PublicKey)
    reader = BundleReader(region=REGION, keys=TrustedKeys([public]), limit_bytes=1 << 24)
    folder = SyncFolder(tmp_path, node="reader-1", bundles_kept=3)
    folder.prepare()
    cordon = Cordon.of(None, tmp_path)
    for command in ("cordon", "uncordon"):
        _, report = await enrolling.fleet(command, "reader-1")
        _, roster = await enrolling.roster_in_stream(at_least=int(str(report["bundle_version"])))
        read = reader.open(await enrolling.message_in_stream(), newer_than=folder.current())
        folder.install(read)
        folder.activate(read.version)
        assert Parse((tmp_path / "current/roster.json").read_text(), Roster()) == roster
        assert cordon.is_up == (command == "cordon")


async def test_a_drain_waits_for_the_last_call(enrolling: EnrollingHub) -> None:
    await enrolled(enrolling, "drained-1", "10.3.1.1")
    async with speaking_node(enrolling, "drained-1", calls_end_after_s=2.0):
        code, report = await enrolling.fleet("drain", "drained-1", "--deadline", "20")
    assert (code, report["is_drained"], report["calls"]) == (0, True, 0)
    assert float(str(report["waited_s"])) > 0.5


async def test_a_drain_that_takes_too_long_ends_with_3_and_leaves_the_node_draining(enrolling: EnrollingHub) -> None:
    await enrolled(enrolling, "busy-1", "10.3.1.2")
    async with speaking_node(enrolling, "busy-1", calls_end_after_s=60.0):
        code, report = await enrolling.fleet("drain", "busy-1", "--deadline", "1.5")
        assert (code, report["is_drained"], report["calls"]) == (3, False, 1)
        shown = await enrolling.hub.run("fleet", "status", "--region", REGION)
        row = next(line for line in shown.stdout.splitlines() if "busy-1" in line)
        assert ("draining" in row, " 1.0 " in row) == (True, True)


async def test_a_node_that_is_not_heard_is_not_called_drained(enrolling: EnrollingHub) -> None:
    await enrolled(enrolling, "mute-1", "10.3.1.3")
    code, report = await enrolling.fleet("drain", "mute-1", "--deadline", "0.5")
    assert (code, report["calls"]) == (3, -1)


async def test_remove_drains_revokes_and_frees_the_name(enrolling: EnrollingHub) -> None:
    """Its siblings read in the next bundle that it has no identity any more."""
    machine = await enrolled(enrolling, "gone-1", "10.3.2.1")
    async with speaking_node(enrolling, "gone-1", calls_end_after_s=1.0):
        code, report = await enrolling.fleet("remove", "gone-1", "--yes", "--deadline", "20")
    assert (code, report["state"], report["before"]) == (0, "removed", "draining")
    node = await in_stream(enrolling, "gone-1", int(str(report["bundle_version"])))
    assert (node.state, list(node.identities), node.address) == (NODE_STATE_REMOVED, [], "")
    assert {str(entry.state) for entry in enrolling.entries("gone-1")} == {"revoked"}
    assert await enrolling.node_status("gone-1") is None
    async with refused("enrolment.node_unknown"):
        await machine.renew()
    again = Machine(hub=enrolling, name="gone-1", address="10.3.2.1")
    reply = await again.enroll(await enrolling.token())
    assert next(one for one in reply.roster.nodes if one.name == "gone-1").state == NODE_STATE_ACTIVE


async def test_a_node_with_calls_or_without_a_word_is_removed_by_force_only(enrolling: EnrollingHub) -> None:
    await enrolled(enrolling, "lost-1", "10.3.2.2")
    code, report = await enrolling.fleet("remove", "lost-1", "--yes", "--deadline", "0")
    assert (code, report["state"]) == (3, "draining")
    code, report = await enrolling.fleet("remove", "lost-1", "--yes", "--force")
    assert (code, report["state"]) == (0, "removed")
    targets = [target for action, target, _ in await enrolling.audited(2) if action == "fleet.set_state"]
    assert targets[0] == f"{REGION}/lost-1 removed forced"


async def test_remove_asks_first(enrolling: EnrollingHub) -> None:
    await enrolled(enrolling, "asked-1", "10.3.2.3")
    result = await enrolling.hub.run("fleet", "remove", "asked-1", role="admin", person="root")
    assert (result.exit_code, "Aborted" in result.stderr) == (1, True)
    status = await enrolling.node_status("asked-1")
    assert status is not None
    assert status["state"] == "NODE_STATE_ACTIVE"


async def test_states_are_for_admins_and_for_nodes_that_there_are(enrolling: EnrollingHub) -> None:
    denied = await enrolling.hub.run("fleet", "cordon", "asked-1", role="operator", person="ada")
    assert (denied.exit_code, "hub.not_allowed" in denied.stderr) == (1, True)
    assert (await enrolling.audited(1))[0][::2] == ("Fleet.SetState", "hub.not_allowed")
    missing = await enrolling.hub.run("fleet", "cordon", "nobody-1", role="admin", person="root")
    assert (missing.exit_code, "hub.node_not_found" in missing.stderr) == (1, True)


async def test_what_a_removed_node_still_has_is_revoked_by_the_next_look(enrolling: EnrollingHub) -> None:
    """The authority did not answer when it was removed."""
    await enrolled(enrolling, "late-1", "10.3.2.4")
    await enrolling.stop_authority()
    code, _ = await enrolling.fleet("remove", "late-1", "--yes", "--force")
    assert code == 1
    assert {str(entry.state) for entry in enrolling.entries("late-1")} == {"current"}
    await enrolling.start_authority()
    async with asyncio.timeout(15):
        while {str(entry.state) for entry in enrolling.entries("late-1")} != {"revoked"}:
            await asyncio.sleep(0.1)
