"""What the roles render is taken by the programs themselves, whatever the inventory says."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ansible.front_door.door import write_settings
from tests.ansible.front_door.network import Host
from tests.ansible.front_door.region import NODES, TRUNKS, VIP
from tests.ansible.front_door.roles import ROLES, render
from tests.ansible.front_door.root import inside

CASES: dict[str, dict[str, Any]] = {
    "no address of the region": {"vip": ""},
    "no trunks yet": {"vip": VIP, "trunks": []},
    "trunks of all kinds": {
        "vip": VIP,
        "trunks": [*TRUNKS, {"name": "t", "host": "192.0.2.1", "port": 5070, "transport": "tcp"}],
        "_front_door_has_tls": True,
    },
    "ipv6": {
        "vip": "fd60::100",
        "address": "fd60::11",
        "nodes": ["fd60::11", "fd60::12"],
        "trunks": [{"name": "six", "host": "fd60::50", "networks": ["fd60::/64"]}],
    },
}


@pytest.mark.parametrize("case", CASES)
def test_kamailio_takes_its_settings(hosts: dict[str, Host], root: Path, tmp_path: Path, case: str) -> None:
    """kamailio -c: every module, parameter and function is there in Debian's version."""
    settings = {"address": "10.60.0.11", "nodes": ["10.60.0.11"], "trunks": TRUNKS[:1]} | CASES[case]
    write_settings(tmp_path, **settings)
    argv = inside(hosts["a"], root, tmp_path, "kamailio", "-c", "-f", "/srv/kamailio.cfg")
    said = hosts["a"].run("sh", "-c", '"$@" 2>&1', "sh", *argv[len(hosts["a"].command()) :])
    assert "config file ok" in said


def test_keepalived_takes_its_settings(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """keepalived --config-test, as the role validates it."""
    variables = {
        "borough_vip": VIP,
        "borough_address": "10.60.0.11",
        "front_door_nodes": list(NODES),
        "front_door_deciding_nodes": list(NODES),
        "front_door_vip_interface": "eth0",
        "front_door_router_name": "node",
        "_front_door_programs": "/usr/bin",
    }
    text = render("front_door", "keepalived.conf.j2", variables)
    assert f"front-door-in-region 1 {NODES[1]} {NODES[2]}" in text, "the same at each play"
    text = text.replace("/usr/bin/front-door-", "/usr/bin/true #")
    (tmp_path / "keepalived.conf").write_text(text, encoding="utf-8")
    argv = inside(hosts["a"], root, tmp_path, "keepalived", "--config-test", "--use-file=/srv/keepalived.conf")
    said = hosts["a"].run("sh", "-c", '"$@" 2>&1', "sh", *argv[len(hosts["a"].command()) :])
    assert "Unknown keyword" not in said


@pytest.mark.parametrize("role", ["firewall", "front_door"])
def test_every_option_is_described(role: str) -> None:
    """argument_specs and defaults name the same options."""
    defaults = yaml.safe_load((ROLES / role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    specs = yaml.safe_load((ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    assert set(specs["argument_specs"]["main"]["options"]) == set(defaults)
