"""The odd callers of bench/sipp, through the front door: SIPp gets what its scenarios expect, and nothing stays."""

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.torture import SIPP_SCENARIOS
from tests.ansible.front_door.network import Host, until
from tests.ansible.front_door.pbx import ECHO_DIALPLAN
from tests.ansible.front_door.region import DOOR, NODES, NUMBER, node, open_door, wait_for_nodes

SIPP_TIMEOUT_S = 60.0
CALLS = 6
SCENARIOS = ("early_bye", "reinvite_hold", "unknown_number", "malformed_sdp")

pytestmark = pytest.mark.skipif(shutil.which("sipp") is None, reason="SIPp is missing: apt-get install sip-tester")


@pytest.mark.parametrize("name", SCENARIOS)
def test_odd_callers_get_what_they_deserve(
    hosts: dict[str, Host], root: Path, image: Path, tmp_path: Path, name: str
) -> None:
    """Hang-ups in the moment of the answer, hold by re-INVITE, bad offers, unknown numbers."""
    with ExitStack() as stack:
        b = stack.enter_context(node(hosts["b"], image, tmp_path / "b", ECHO_DIALPLAN))
        door = stack.enter_context(open_door(hosts["a"], root, tmp_path / "door", nodes=NODES[1:2]))
        wait_for_nodes(door, 1)
        assert _sipp(hosts["carrier"], name, tmp_path) == 0, (tmp_path / f"{name}.log").read_text()[-3000:]
        until(lambda: b.calls() == 0, within_s=5.0, what="nothing stays")
        assert door.active_nodes() == 1


def _sipp(host: Host, name: str, directory: Path) -> int:
    scenario = SIPP_SCENARIOS / f"{name}.xml"
    argv = ["sipp", f"{DOOR[0]}:{DOOR[1]}", "-sf", str(scenario), "-s", NUMBER, "-i", host.address, "-p", "5060"]
    argv += ["-m", str(CALLS), "-r", "3", "-nostdin", "-timeout", "40s", "-recv_timeout", "10000"]
    with (directory / f"{name}.log").open("wb") as log:
        done = subprocess.run(
            host.command(*argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=SIPP_TIMEOUT_S,
            check=False,
            cwd=directory,
        )
    return done.returncode
