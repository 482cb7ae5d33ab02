"""Drain, undrain, status: the cordon file and the slots, as call workers use them."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.call.slots import SlotLedger
from edge.sync.cordon import Cordon
from provisioning.node.cli import node
from provisioning.node.machine import CORDON, CURRENT_BUNDLE, ISOLATED, SLOTS, Machine
from provisioning.node.rotation import CordonReason, Rotation
from tests.provisioning.node.conftest import ADDRESSES, Enrolled

Make = Callable[..., Enrolled]


@pytest.fixture
def machine(enrolled: Make, tmp_path: Path) -> Machine:
    made = enrolled(*ADDRESSES).machine(tmp_path / "root")
    made.at(SLOTS).mkdir(parents=True)
    return made


def _slots(machine: Machine) -> SlotLedger:
    return SlotLedger(directory=machine.at(SLOTS), capacity=28)


def _run(machine: Machine, *arguments: str) -> Result:
    return CliRunner().invoke(node, [*arguments, "--root", str(machine.root)])


def test_a_drained_node_refuses_calls_as_workers_see_it(machine: Machine) -> None:
    """And takes them again after undrain."""
    cordon = Cordon((machine.at(CORDON),))
    assert not cordon.is_up
    assert _run(machine, "drain", "--deadline", "1").exit_code == 0
    assert cordon.is_up
    assert _run(machine, "undrain").output == "takes calls\n"
    assert not cordon.is_up
    assert _run(machine, "undrain").output == "takes calls already\n"


def test_drain_waits_for_running_calls(machine: Machine) -> None:
    """It ends when the last call does."""
    slot = _slots(machine).take()
    ending = threading.Timer(0.6, slot.release)
    ending.start()
    result = _run(machine, "drain", "--deadline", "20", "--json")
    ending.join()
    assert json.loads(result.output) == {"cordoned": True, "running_before": 1, "running": 0}


def test_drain_says_what_is_left_at_the_deadline(machine: Machine) -> None:
    """The node stays cordoned, the exit code is an error's."""
    with _slots(machine).take(), _slots(machine).take():
        result = _run(machine, "drain", "--deadline", "0.3")
    assert result.exit_code != 0
    assert "2 calls still run" in str(result.exception)
    assert Rotation(machine).reason() is CordonReason.DRAINED


def test_a_node_is_stopped_in_order(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address goes first, calls before what they need, records before NATS; a call that lasts is ended."""
    log, program = tmp_path / "log", tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    # All run but the arbiter; what was stopped runs no more.
    program.write_text(
        "#!/bin/sh\nfor unit; do :; done\n"
        f'case "$1 $unit" in *arbiter) exit 3 ;; stop*) echo "$unit" >> {log} ;;'
        f' is-active*) ! grep -qx "$unit" {log} 2>/dev/null || exit 3 ;; esac\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    with _slots(machine).take():
        result = _run(machine, "drain", "--deadline", "0.3", "--stop", "--json")
    document = json.loads(result.output)
    assert (document["running"], result.exit_code) == (1, 0)
    stopped = log.read_text().split()
    stopped.remove("borough-selftest")
    assert sorted(document["stopped"]) == sorted(stopped)
    workers = {"borough-calls@1", "borough-calls@2"}
    assert stopped[0] == "keepalived"
    assert set(stopped[4:6]) == workers
    assert stopped[6:] == [
        *("kamailio", "borough-asterisk", "borough-litestream", "borough-agent", "borough-inference"),
        *("borough-nats", "borough.target"),
    ]
    assert Rotation(machine).reason() is CordonReason.DRAINED


def test_an_isolated_node_says_so(machine: Machine) -> None:
    """Nobody undrains it: it takes calls again by itself."""
    machine.at(ISOLATED).parent.mkdir(parents=True, exist_ok=True)
    machine.at(ISOLATED).touch()
    assert json.loads(_run(machine, "status", "--json").output)["cordoned"] == "isolated"
    assert "hears no majority" in _run(machine, "undrain").output


def test_looking_at_slots_takes_none(machine: Machine) -> None:
    """A worker gets every slot while somebody counts them."""
    ledger = _slots(machine)
    taken = [ledger.take() for _ in range(27)]
    assert Rotation(machine).running_calls() == 27
    taken.append(ledger.take())
    assert Rotation(machine).running_calls() == 28
    for slot in taken:
        slot.release()


@pytest.mark.parametrize("text", ["", "untested\n"])
def test_the_cordon_of_the_boot_is_not_undrained(machine: Machine, text: str) -> None:
    """Only a passed self-test lifts it, and that lifts no operator's."""
    machine.at(CORDON).write_text(text)
    assert "still cordoned" in _run(machine, "undrain").output
    assert Rotation(machine).open(CordonReason.UNTESTED)
    Rotation(machine).close()
    assert not Rotation(machine).open(CordonReason.UNTESTED)


def test_status_says_what_the_machine_is(machine: Machine) -> None:
    """Name, rotation, bundle, certificates."""
    bundle = machine.at(CURRENT_BUNDLE).parent / "bundles" / "12"
    bundle.mkdir(parents=True)
    (bundle / "cordoned").touch()
    machine.at(CURRENT_BUNDLE).symlink_to("bundles/12")
    with _slots(machine).take():
        document = json.loads(_run(machine, "status", "--json").output)
    assert document["name"] == "in-south-1"
    assert document["cordoned"] == "by-hub"
    assert (document["running_calls"], document["capacity"], document["bundle"]) == (1, 28, 12)
    assert document["enrolled"] is True
    assert 179 < document["expires_in_days"] <= 180
    assert "agent" in _run(machine, "status").output
