import pytest

from provisioning.local.errors import RegionPlanError
from provisioning.local.plan import parse_regions


def test_nodes_are_named_after_their_region_and_numbered_over_all() -> None:
    south, central = parse_regions("in-south:2, eu-central")
    assert [node.name for node in south.nodes] == ["in-south-1", "in-south-2"]
    assert [(node.name, node.index) for node in central.nodes] == [("eu-central-1", 2)]


@pytest.mark.parametrize("text", ["", "In-South", "a:0", "in-south:x", "in-south,in-south", "a-b:4,c-d:4", "in south"])
def test_a_wrong_plan_says_what_is_wrong(text: str) -> None:
    with pytest.raises(RegionPlanError):
        parse_regions(text)
