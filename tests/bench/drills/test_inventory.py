"""An operator's inventory, read by Ansible itself."""

from pathlib import Path

import pytest
import yaml

from bench.drills.errors import DrillImpossibleError
from bench.drills.inventory import read_inventory
from bench.drills.power import InsidePower, power_of

HERE, ELSEWHERE = "127.0.0.1", "192.0.2.9"


def written(folder: Path, trunk: str = HERE) -> Path:
    inventory = {
        "all": {
            "vars": {
                "ansible_user": "admin",
                "ansible_ssh_private_key_file": "/keys/ssh",
                "ansible_ssh_common_args": "-o LogLevel=ERROR",
            },
            "children": {
                "hub": {"hosts": {"hub-1": {"ansible_host": "10.77.0.10"}}},
                "nodes": {
                    "hosts": {
                        f"a-{number}": {"ansible_host": f"10.77.0.1{number}", "borough_region": "a"}
                        for number in (1, 2)
                    },
                    "vars": {
                        "borough_vip": "10.77.0.100",
                        "borough_trunks": [
                            {"name": "carrier", "host": ELSEWHERE, "networks": []},
                            {"name": "drills", "host": trunk, "port": 5070, "networks": []},
                        ],
                    },
                },
            },
        }
    }
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    return folder / "hosts.yml"


def test_a_region_is_reached_and_called_as_the_inventory_says(tmp_path: Path) -> None:
    found = read_inventory(written(tmp_path), None, tmp_path)
    assert [(node.machine.name, node.address) for node in found.nodes] == [("a-1", "10.77.0.11"), ("a-2", "10.77.0.12")]
    assert found.nodes[0].machine.user == "admin"
    assert found.nodes[0].machine.options == ("-i", "/keys/ssh", "-p", "22", "-o", "LogLevel=ERROR")
    assert found.hub is not None
    assert (found.region, found.virtual_address) == ("a", "10.77.0.100")
    assert (found.trunk_host, found.trunk_port) == (HERE, 5070)


def test_a_region_without_a_trunk_to_here_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DrillImpossibleError, match="no trunk"):
        read_inventory(written(tmp_path, trunk=ELSEWHERE), "a", tmp_path)


def test_machines_that_are_not_inside_this_one_lose_their_power_from_inside(tmp_path: Path) -> None:
    assert isinstance(power_of(written(tmp_path)), InsidePower)
