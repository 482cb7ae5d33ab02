"""Who is a sibling: read from the roster on disk, as it is now."""

from pathlib import Path

import pytest

from contract.downlink_pb2 import NODE_STATE_CORDONED, NODE_STATE_DRAINING, NODE_STATE_REMOVED, NodeState
from edge.inference.region_roster import Members, RegionRoster, Sibling, members_of
from provisioning.identity.names import ServiceRole
from tests.edge.inference.region import ADDRESSES, HOME, REGION, SIBLING, SmallRegion

NOBODY = Members()


@pytest.fixture
def region(tmp_path: Path) -> SmallRegion:
    made = SmallRegion(tmp_path, port=1)
    made.found()
    return made


def _roster(region: SmallRegion) -> RegionRoster:
    return RegionRoster(region.roster_path(), region=REGION, node=HOME)


def test_the_other_nodes_are_siblings_and_their_call_workers_may_ask(region: SmallRegion) -> None:
    members = _roster(region).members()
    assert members.siblings == {Sibling(name=SIBLING, address=ADDRESSES[SIBLING])}
    pin = region.entries[REGION, SIBLING, ServiceRole.CALLS].pin
    assert members.askers == {f"borough://{REGION}/{SIBLING}/calls/1": (SIBLING, pin)}


@pytest.mark.parametrize(
    ("state", "is_asked"), [(NODE_STATE_CORDONED, True), (NODE_STATE_DRAINING, False), (NODE_STATE_REMOVED, False)]
)
def test_a_node_that_is_about_to_go_is_not_asked(
    region: SmallRegion, *, state: "NodeState.ValueType", is_asked: bool
) -> None:
    region.write_roster(state=state)
    members = _roster(region).members()
    assert bool(members.siblings) is is_asked
    assert members.askers


def test_the_file_is_read_again_when_it_was_replaced(region: SmallRegion) -> None:
    roster = _roster(region)
    first = roster.members()
    assert roster.members() is first
    region.write_roster(without=SIBLING)
    assert roster.members() == NOBODY
    region.write_roster()
    assert roster.members() == first


def test_without_a_roster_nobody_is_a_sibling_until_there_is_one(region: SmallRegion) -> None:
    region.roster_path().unlink()
    roster = _roster(region)
    assert roster.members() == NOBODY
    region.write_roster()
    assert roster.members().siblings


@pytest.mark.parametrize("text", ["", "[", '{"region": "eu-west"}', '{"region": 7}'])
def test_a_roster_that_cannot_be_used_leaves_the_last_good_one(region: SmallRegion, text: str) -> None:
    roster = _roster(region)
    good = roster.members()
    region.roster_path().write_text(text)
    assert roster.members() == good
    assert roster.members() == good
    with pytest.raises(ValueError, match="it "):
        members_of(text, REGION, HOME)


def test_a_name_of_another_region_is_nobodys(region: SmallRegion) -> None:
    """A hub never writes it; if one did, it would not be let in."""
    text = region.roster_path().read_text().replace(f"borough://{REGION}/", "borough://eu-west/")
    assert not members_of(text, REGION, HOME).askers
