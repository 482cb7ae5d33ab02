"""Real machines: booted, cut off, cut down, and nothing left of them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.build_store.root import ensure_debian_root
from provisioning.local.layout import StateLayout
from provisioning.machines import bridge
from provisioning.machines.cgroups import CgroupNest
from provisioning.machines.errors import MachineCommandError, MachineUnknownError
from provisioning.machines.machine import Machine
from provisioning.machines.plan import MachinesPlan
from provisioning.machines.rehearsal import Rehearsal

PLAN = MachinesPlan(region="test", nodes=1, network="10.219.1.0/24", bridge="test")

pytestmark = [
    pytest.mark.region,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("systemd-nspawn") is None, reason="needs root and systemd-container"
    ),
]


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """A hub and a node, booted."""
    rehearsal = Rehearsal(tmp_path_factory.mktemp("machines"))
    try:
        rehearsal.up(PLAN, ensure_debian_root(state_directory=StateLayout().images))
        yield rehearsal
    finally:
        rehearsal.down()


@pytest.fixture
def node(rehearsal: Rehearsal) -> Machine:
    return rehearsal.machine("test-1")


def runs(pid: int) -> bool:
    """A zombie does not; nobody may be there to ask for it."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_machine_is_a_whole_system(node: Machine) -> None:
    """It has its own name, its own address and its own systemd."""
    assert node.run("hostname").strip() == "test-1"
    assert "10.219.1.11/24" in node.run("ip", "-4", "address", "show", "host0")
    assert node.run("systemctl", "is-system-running", "--wait").strip() == "running"
    assert "trixie" in node.run("cat", "/etc/os-release")


def test_machines_hear_each_other(node: Machine) -> None:
    """A port of one answers the other."""
    line = "exec 3<>/dev/tcp/10.219.1.10/22 && head -c4 <&3"
    assert node.run("bash", "-c", line) == "SSH-"


def test_what_is_on_disk_outlives_the_power(node: Machine) -> None:
    """A machine whose plug was pulled comes back with its files, and nothing of it ran on meanwhile."""
    node.run("sh", "-c", "echo kept > /root/file && sync")
    first = node.init_pid
    node.cut_power()
    assert node.pid is None
    assert first is not None
    assert not runs(first)
    node.start()
    assert node.run("cat", "/root/file") == "kept\n"


def test_a_bare_machine_takes_the_place_of_a_lost_one(node: Machine) -> None:
    """Same name and address, nothing of what the other had on its disk."""
    node.run("sh", "-c", "echo lost > /root/of-the-lost && sync")
    identity = node.run("cat", "/etc/machine-id")
    node.cut_power()
    node.replace()
    assert node.run("hostname").strip() == "test-1"
    assert node.run("cat", "/etc/machine-id") != identity
    with pytest.raises(MachineCommandError):
        node.run("cat", "/root/of-the-lost")


def test_an_orderly_end_stops_services_first(node: Machine) -> None:
    """What a service does when it is stopped is done."""
    unit = "[Service]\\nExecStart=sleep 1000\\nExecStop=touch /root/stopped\\n"
    node.run("sh", "-c", f"printf '{unit}' > /etc/systemd/system/last.service && systemctl start last")
    node.power_off()
    assert (node.directory / "disk" / "root" / "stopped").exists()
    node.start()


def test_an_unplugged_machine_hears_nobody(node: Machine) -> None:
    """And it does again once the cable is back."""
    bridge.unplug(node.place)
    with pytest.raises(MachineCommandError):
        node.run("true", timeout_s=10)
    bridge.plug_in(PLAN, node.place)
    assert node.run("echo", "back") == "back\n"


def test_a_failed_command_says_where_and_what(node: Machine) -> None:
    """The machine, the command, its exit code and its words stand in the error."""
    with pytest.raises(MachineCommandError, match=r"(?s)test-1: ls /nowhere: exit code 2.*No such file"):
        node.run("ls", "/nowhere")


def test_a_machine_that_is_not_there(rehearsal: Rehearsal) -> None:
    """The error lists those that are."""
    with pytest.raises(MachineUnknownError, match="there are: hub-1, test-1"):
        rehearsal.machine("test-9")


def test_nothing_is_left(tmp_path: Path) -> None:
    """Destroyed machines leave no process, mount, cgroup, link or bridge."""
    plan = MachinesPlan(region="gone", nodes=1, network="10.219.2.0/24", bridge="gone")
    rehearsal = Rehearsal(tmp_path / "machines")
    try:
        machines = rehearsal.up(plan, ensure_debian_root(state_directory=StateLayout().images))
        pids = [pid for machine in machines for pid in (machine.pid, machine.init_pid)]
    finally:
        rehearsal.down()
    assert not [pid for pid in pids if pid is not None and runs(pid)]
    assert str(tmp_path) not in Path("/proc/mounts").read_text(encoding="utf-8")
    links = subprocess.run(["ip", "-brief", "link"], check=True, capture_output=True, text=True).stdout
    assert "gone" not in links
    assert not [path for path in CgroupNest("gone-11").directories() if path.exists()]
