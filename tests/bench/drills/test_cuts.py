"""What is done to machines: shell that a shell takes, rules that nft takes, and a switch that undoes both."""

import shutil
import subprocess

import pytest

from bench.drills import cuts
from bench.drills.kinds import PartitionShape

PEERS = ("10.77.0.11", "10.77.0.100", "fd00::11")
SCRIPTS = {
    "power": cuts.power_off(90.0),
    "hub": cuts.hub_off(90.0),
    "disk": cuts.fill(90.0),
    "cut": cuts.cut(PartitionShape.ALONE, PEERS, 90.0),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_the_switch_is_on_before_anything_is_taken_away(name: str) -> None:
    script = SCRIPTS[name]
    assert subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode == 0
    switch = script.index("systemd-run")
    assert "--on-active=90" in script
    taken = ("\nnft -f", "systemctl kill", "\nfallocate")
    assert all(script.index(one) > switch for one in taken if one in script)
    # What was printed first is when it struck.
    assert script.index(cuts.NOW) > switch


@pytest.mark.parametrize("shape", PartitionShape)
def test_ssh_and_the_machine_itself_go_on(shape: PartitionShape) -> None:
    rules = cuts.rules(shape, PEERS)
    chains = rules.count("hook")
    assert chains == (1 if shape is PartitionShape.ONE_WAY else 2)
    assert rules.count("tcp dport 22 accept") == rules.count("lo accept") == chains
    assert rules.index("tcp dport 22 accept") < rules.index("drop")
    assert ("4222" in rules) is (shape is PartitionShape.NATS)


@pytest.mark.skipif(shutil.which("nft") is None, reason="needs nft")
@pytest.mark.parametrize("shape", PartitionShape)
def test_nft_takes_the_rules(shape: PartitionShape) -> None:
    command = ["unshare", "--net", "--map-root-user", "nft", "-f", "-"]
    subprocess.run(command, input=cuts.rules(shape, PEERS), text=True, check=True)


def test_putting_back_twice_is_no_error() -> None:
    for undo in (cuts.HEAL, cuts.EMPTY):
        script = f"nft() {{ return 1; }}; systemctl() {{ return 1; }}; rm() {{ true; }}\n{cuts.put_back(undo)}"
        assert subprocess.run(["sh", "-eu"], input=script, text=True, check=False).returncode == 0
