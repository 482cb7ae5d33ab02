"""The roster of a bundle, as servers and workers of the node find it."""

import json
from pathlib import Path

import pytest

from contract import uplink_guard, uplink_pb2
from contract.downlink_pb2 import (
    NODE_STATE_ACTIVE,
    NODE_STATE_CORDONED,
    NODE_STATE_DRAINING,
    NODE_STATE_REMOVED,
    NodeState,
    Roster,
    RosterHub,
    RosterIdentity,
    RosterNode,
)
from contract.uplink_pb2 import Health
from edge.sync.cordon import Cordon
from edge.sync.health import release_told
from tests.edge.sync.hub import NODE, REGION, SigningHub
from tests.edge.sync.test_bundles import Node, node_in


def roster(state: NodeState.ValueType, name: str = NODE, region: str = REGION) -> Roster:
    identity = RosterIdentity(role="server", uris=[f"borough://{region}/{name}/server/1"], pins=["ab" * 32])
    return Roster(
        region=region,
        hub=RosterHub(node="hub-1", address="10.0.0.1", leaf_port=7422, client_port=4222),
        nodes=[RosterNode(name=name, address="10.0.0.11", state=state, identities=[identity])],
    )


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return node_in(tmp_path / "sync", SigningHub())


async def test_the_roster_lies_beside_the_documents_of_its_bundle(node: Node) -> None:
    """It goes with the bundle that does not have one."""
    await node.receive(node.hub.bundle(1, roster=roster(NODE_STATE_ACTIVE)))
    file = node.folder.root / "current/roster.json"
    read = json.loads(file.read_text())
    assert read["hub"] == {"node": "hub-1", "address": "10.0.0.1", "leaf_port": 7422, "client_port": 4222}
    assert read["nodes"][0]["identities"][0]["uris"] == [f"borough://{REGION}/{NODE}/server/1"]
    await node.receive(node.hub.bundle(2))
    assert not file.exists()


@pytest.mark.parametrize("state", [NODE_STATE_CORDONED, NODE_STATE_DRAINING, NODE_STATE_REMOVED])
async def test_a_node_out_of_rotation_is_cordoned_with_the_bundle_that_says_so(
    node: Node, state: NodeState.ValueType
) -> None:
    cordon = Cordon.of(None, node.folder.root)
    await node.receive(node.hub.bundle(1, roster=roster(state)))
    assert cordon.is_up
    await node.receive(node.hub.bundle(2, roster=roster(NODE_STATE_ACTIVE)))
    assert not cordon.is_up


async def test_what_a_roster_says_of_others_cordons_nobody(node: Node) -> None:
    """Nor does a roster that does not name the node: the hub may have been restored from an older state."""
    await node.receive(node.hub.bundle(1, roster=roster(NODE_STATE_CORDONED, name="another-node")))
    assert not Cordon.of(None, node.folder.root).is_up


async def test_the_roster_of_another_region_is_refused(node: Node) -> None:
    ack = await node.receive(node.hub.bundle(1, roster=roster(NODE_STATE_ACTIVE, region="eu-central")))
    assert ack.refusal == uplink_pb2.REFUSAL_WRONG_REGION
    assert node.folder.current() == 0


async def test_a_lost_or_altered_roster_is_unpacked_again_at_the_next_start(node: Node) -> None:
    await node.receive(node.hub.bundle(1, roster=roster(NODE_STATE_CORDONED)))
    (node.folder.root / "current/roster.json").write_text("{}")
    (node.folder.root / "current/cordoned").unlink()
    assert node.folder.recover(node.config.reader) == 1
    assert json.loads((node.folder.root / "current/roster.json").read_text())["region"] == REGION
    assert Cordon.of(None, node.folder.root).is_up


@pytest.mark.parametrize(
    ("version", "told"),
    [
        ("0.1.0", "0.1.0"),
        ("0.1.0+g0123456789ab.changed.12345678", "0.1.0"),
        ("1.2.3rc1+local", "1.2.3rc1"),
        ("2026.11.23", ""),
    ],
)
def test_the_release_that_health_tells_passes_the_border(version: str, told: str) -> None:
    """A build between releases carries a commit, whose digits could be anything."""
    assert release_told(version) == told
    health = Health(region=REGION, node=NODE, at_ms=1_790_000_000_000, release=release_told(version), is_cordoned=True)
    assert uplink_guard.check(health) == []
