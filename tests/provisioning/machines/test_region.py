"""What a rehearsed region says of itself before there are machines."""

from pathlib import Path

import yaml

from provisioning.local.layout import StateLayout
from provisioning.machines.region import RegionRehearsal


def test_an_inventory_names_who_is_in_the_region(tmp_path: Path) -> None:
    """A node that was taken out is in it no more; secrets stay as they were made."""
    region = RegionRehearsal(layout=StateLayout(tmp_path))
    region.directory.mkdir()
    region.write_inventory("1.0.0")
    vault = (region.inventory / "group_vars" / "nodes" / "vault.yml").read_text(encoding="utf-8")
    assert list(_nodes(region)) == ["in-south-1", "in-south-2", "in-south-3"]
    region.write_inventory("1.0.0", left_out=["in-south-3"])
    assert list(_nodes(region)) == ["in-south-1", "in-south-2"]
    assert (region.inventory / "group_vars" / "nodes" / "vault.yml").read_text(encoding="utf-8") == vault


def _nodes(region: RegionRehearsal) -> dict[str, object]:
    hosts = yaml.safe_load((region.inventory / "hosts.yml").read_text(encoding="utf-8"))
    nodes: dict[str, object] = hosts["all"]["children"]["nodes"]["hosts"]
    return nodes


def test_a_region_without_machines_does_not_stand(tmp_path: Path) -> None:
    """An inventory that an earlier one left is no region."""
    region = RegionRehearsal(layout=StateLayout(tmp_path))
    assert not region.stands
    region.directory.mkdir()
    region.write_inventory("1.0.0")
    assert not region.stands
