"""The roles on booted machines: fenced units run, a second play changes nothing, a dead machine's address moves."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioning.machines.bridge import ensure_bridge, remove_bridge
from provisioning.machines.machine import Machine
from provisioning.machines.plan import MachinesPlan
from tests.ansible.front_door.network import until
from tests.ansible.front_door.roles import ROLES
from tests.ansible.front_door.root import require_root

PLAN = MachinesPlan(region="door", nodes=2, network="10.219.7.0/24", bridge="doortest")
PLAY = Path(__file__).with_name("play.yml")
PLAY_TIMEOUT_S = 300.0
MOVES_WITHIN_S = 3.0
LARGEST_EXPOSURE = 3.0
METRICS = "/var/lib/prometheus/node-exporter/borough_front_door.prom"
CONFIGURATION = f"""\
[defaults]
roles_path = {ROLES}
inject_facts_as_vars = False
host_key_checking = False
[connection]
pipelining = True
[ssh_connection]
ssh_args = -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
"""


pytestmark = [
    pytest.mark.region,
    pytest.mark.skipif(shutil.which("systemd-nspawn") is None, reason="needs systemd-container"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Two nodes, and plays over them."""

    folder: Path
    nodes: tuple[Machine, ...]

    def play(self, *options: str) -> str:
        (self.folder / "ansible.cfg").write_text(CONFIGURATION, encoding="utf-8")
        (self.folder / "inventory.json").write_text(json.dumps(self._inventory()), encoding="utf-8")
        environment = {"ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"), "ANSIBLE_HOME": str(self.folder / "ansible")}
        program = Path(sys.executable).with_name("ansible-playbook")
        done = subprocess.run(
            [program, "-i", self.folder / "inventory.json", *options, PLAY],
            env={**os.environ, **environment},
            check=False,
            capture_output=True,
            text=True,
            timeout=PLAY_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr
        return done.stdout

    def holders(self) -> list[Machine]:
        """Machines that have the region's address."""
        shown = ("ip", "-4", "-brief", "address", "show", "dev", "host0")
        return [each for each in self.nodes if each.pid is not None and f"{PLAN.virtual_address}/" in each.run(*shown)]

    def _inventory(self) -> dict[str, object]:
        hosts = {
            each.place.name: {"ansible_host": each.place.address, "borough_address": each.place.address}
            for each in self.nodes
        }
        shared = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.nodes[0].key),
            "ansible_python_interpreter": "/usr/bin/python3",
            "borough_region": PLAN.region,
            "borough_admin_networks": [f"{PLAN.gateway}/32"],
            "borough_vip": PLAN.virtual_address,
            "borough_vip_interface": "host0",
            "borough_trunks": [{"name": "carrier", "host": PLAN.gateway, "networks": [f"{PLAN.gateway}/32"]}],
        }
        return {"all": {"vars": shared, "children": {"hub": {"hosts": {}}, "nodes": {"hosts": hosts}}}}


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Region]:
    """Booted and played once."""
    root = require_root()
    folder = tmp_path_factory.mktemp("door")
    key = folder / "ssh"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True, timeout=30)
    nodes = tuple(
        Machine(place=place, plan=PLAN, directory=folder / place.name, root=root, key=key)
        for place in PLAN.region_nodes
    )
    made = Region(folder=folder, nodes=nodes)
    ensure_bridge(PLAN)
    try:
        for node in nodes:
            node.start()
        made.play()
        yield made
    finally:
        for node in nodes:
            node.destroy()
        remove_bridge(PLAN)


def test_second_play_and_check_mode_change_nothing(region: Region) -> None:
    """Idempotent, with and without --check."""
    for options in ((), ("--check", "--diff")):
        assert re.findall(r"changed=(\d+)", region.play(*options)) == ["0", "0"]


def test_services_run_fenced_in(region: Region) -> None:
    """kamailio and keepalived live in their sandbox, and what is ours is below the largest exposure."""
    for node in region.nodes:
        for unit in ("kamailio", "keepalived", "nftables", "borough-firewall-counters.timer"):
            assert node.run("systemctl", "is-active", unit) == "active\n"
        for unit in ("kamailio", "borough-firewall-counters"):
            shown = node.run("systemd-analyze", "security", "--no-pager", f"{unit}.service").splitlines()[-1]
            match = re.search(r"exposure level for \S+: ([0-9.]+)", shown)
            assert match is not None, shown
            assert float(match.group(1)) <= LARGEST_EXPOSURE, shown


def test_address_leaves_a_machine_without_power(region: Region) -> None:
    """Killed kamailio first, then the whole machine, as a power cut does it."""
    until(lambda: len(region.holders()) == 1, within_s=15.0, what="one node has the address")
    [first] = region.holders()
    first.run("systemctl", "kill", "--signal=KILL", "kamailio")
    first.run("systemctl", "stop", "kamailio")
    until(lambda: region.holders() not in ([], [first]), within_s=MOVES_WITHIN_S, what="kamailio is gone")
    first.run("systemctl", "start", "kamailio")
    until(lambda: "is_faulty 0" in first.run("cat", METRICS), within_s=10.0, what="the first answers again")
    [second] = region.holders()
    second.cut_power()
    until(lambda: region.holders() == [first], within_s=MOVES_WITHIN_S, what="the machine is gone")
