"""Our units on a booted Debian 13: confined as they say, secrets nowhere, alive or started again."""

import os
import re
import shutil
import time
from collections.abc import Iterator

import pytest

from provisioning.asterisk.image import missing_requirement
from provisioning.machines.bridge import remove_bridge
from provisioning.machines.errors import MachineCommandError
from provisioning.machines.machine import Machine
from tests.ansible.units.node import PLAN, UnitNode, new_node

pytestmark = [
    pytest.mark.region,
    pytest.mark.skipif(
        os.geteuid() != 0 or shutil.which("systemd-nspawn") is None or missing_requirement() is not None,
        reason="needs root, systemd-container and mmdebstrap",
    ),
]

SERVICES = (
    "borough-nats.service",
    "borough-nats-arbiter.service",
    "borough-inference.service",
    "borough-asterisk.service",
    "borough-asterisk-pulse.service",
    "borough-calls@1.service",
    "borough-agent.service",
    "borough-litestream.service",
)
ROOT_SERVICES = (
    "borough-roster.service",
    "borough-selftest.service",
    "borough-renew.service",
    "borough-backoff.service",
)
OTHERS = (
    "borough-roster.path",
    "borough-roster.timer",
    "borough-renew.timer",
    "borough-backoff.timer",
    "borough.target",
)
# systemd-analyze verify looks for programs on the machine; Asterisk's are in its image.
IN_IMAGE = re.compile(r"borough-asterisk.service: Command /(srv/prepare|usr/sbin/asterisk) is not executable")
WATCHDOG_S = 6.0
CONFINED = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "CapabilityBoundingSet": "",
    "RestrictNamespaces": "yes",
    "ProtectProc": "invisible",
    "LimitCORE": "0",
    "MemorySwapMax": "0",
    "Restart": "on-failure",
}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnitNode]:
    """A node on which the roles were played."""
    made = new_node(tmp_path_factory.mktemp("units"))
    try:
        made.start()
        made.play()
        yield made
    finally:
        made.machine.destroy()
        remove_bridge(PLAN)


@pytest.fixture
def machine(node: UnitNode) -> Machine:
    return node.machine


def shown(machine: Machine, unit: str, *names: str) -> dict[str, str]:
    """Properties of a unit."""
    text = machine.run("systemctl", "show", unit, *(f"--property={name}" for name in names))
    return dict(line.split("=", 1) for line in text.splitlines())


def shell(machine: Machine, script: str) -> str:
    return machine.run("sh", "-c", script)


def until(machine: Machine, script: str, within_s: float) -> str:
    """What the script prints once it succeeds."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return shell(machine, script)
        except MachineCommandError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


def test_systemd_finds_nothing_wrong_with_the_units(machine: Machine) -> None:
    """Every directive is known to Debian's systemd, every program is there."""
    line = f"systemd-analyze verify {' '.join((*SERVICES, *ROOT_SERVICES, *OTHERS))} 2>&1 || true"
    assert [said for said in shell(machine, line).splitlines() if not IN_IMAGE.match(said)] == []


@pytest.mark.parametrize(("units", "most"), [(SERVICES, 2.0), (ROOT_SERVICES, 3.0)])
def test_units_are_confined(machine: Machine, units: tuple[str, ...], most: float) -> None:
    """systemd's own judge gives each an exposure far below what is asked (3.0)."""
    # Fails by its exit status; `most` is in tenths there.
    machine.run("systemd-analyze", "security", "--no-pager", f"--threshold={most * 10:.0f}", *units)


@pytest.mark.parametrize("unit", SERVICES)
def test_services_have_what_confines_them(machine: Machine, unit: str) -> None:
    """A user of its own, no privileges, a private view, limits, and a restart."""
    properties = shown(machine, unit, *CONFINED, "User", "MemoryMax", "TasksMax", "WatchdogUSec", "StartLimitBurst")
    assert {name: properties[name] for name in CONFINED} == CONFINED
    user = unit.partition(".")[0].partition("@")[0].removesuffix("-arbiter").removesuffix("-pulse")
    assert properties["User"] == user
    assert properties["MemoryMax"].isdecimal()
    assert properties["TasksMax"].isdecimal()
    assert int(properties["StartLimitBurst"]) > 0
    # Asterisk gives no sign of life of its own; another unit looks.
    assert (properties["WatchdogUSec"] == "0") == (unit == "borough-asterisk.service")


def test_what_is_active_serves(machine: Machine, node: UnitNode) -> None:
    """NATS answers its health page, and Asterisk ARI with the password of the secret file."""
    assert shown(machine, "borough-nats", "ActiveState", "StatusText") == {
        "ActiveState": "active",
        "StatusText": "serves",
    }
    script = (
        "import base64, urllib.request as u;"
        " r = u.Request('http://127.0.0.1:8088/ari/asterisk/info',"
        " headers={'Authorization': 'Basic ' + base64.b64encode(b'borough:' + open('/etc/borough/secrets/ari','rb')"
        ".read()).decode()}); print(u.urlopen(r, timeout=10).status)"
    )
    assert machine.run("python3", "-c", script).strip() == "200"
    assert shown(machine, "borough-asterisk", "ActiveState")["ActiveState"] == "active"
    assert node.ari_password in (node.machine.mounted / "etc/borough/secrets/ari").read_text()


def test_secrets_are_nowhere_else(machine: Machine, node: UnitNode) -> None:
    """The password is in no unit, environment, process list or log; other services cannot read it."""
    wanted = node.ari_password
    look = f"grep -rlF {wanted} /etc/systemd /proc/[0-9]*/environ /proc/[0-9]*/cmdline /var/log /run/log 2>/dev/null"
    # The shell that looks has it in its own command line.
    assert set(shell(machine, f"{look} | grep -v '^/proc/' || true").split()) == set()
    for kind in ("environ", "cmdline"):
        line = f"for p in $(pgrep -u borough-asterisk,borough-nats); do cat /proc/$p/{kind}; done | tr '\\0' '\\n'"
        assert wanted not in shell(machine, line)
    assert wanted not in machine.run("systemctl", "show", "borough-asterisk.service")
    with pytest.raises(MachineCommandError):
        machine.run("runuser", "-u", "borough-nats", "--", "cat", "/run/credentials/borough-asterisk.service/ari")
    with pytest.raises(MachineCommandError):
        machine.run("runuser", "-u", "borough-asterisk", "--", "cat", "/etc/borough/secrets/ari")


def test_asterisk_sees_its_image_and_cannot_change_it(machine: Machine) -> None:
    """Its root is the image, read-only; what it may write is its own folder."""
    line = "cat /proc/$(systemctl show -P MainPID borough-asterisk)/mountinfo"
    mounts = {fields[4]: fields[5] for fields in (text.split() for text in shell(machine, line).splitlines())}
    assert mounts["/"].startswith("ro")
    assert mounts["/srv"].startswith("rw")
    assert mounts["/srv/rendered"].startswith("ro")


def test_a_certificate_that_is_missing_keeps_no_unit_down(machine: Machine) -> None:
    """Where LoadCredential= finds no file, SetCredential= has a word for services; without it the unit fails."""
    missing, word = "--property=LoadCredential=x:/etc/borough/identity/none/key.pem", "--property=SetCredential=x:none"
    run = ("systemd-run", "--wait", "--pipe", "--quiet", missing)
    script = ("sh", "-c", "cat $CREDENTIALS_DIRECTORY/x")
    assert machine.run(*run, word, *script).strip() == "none"
    with pytest.raises(MachineCommandError):
        machine.run(*run, *script)


def test_nats_reads_its_settings_again_without_a_restart(machine: Machine) -> None:
    """A reload changes when the configuration was loaded, and not the process."""
    loaded = (
        'python3 -c "import json, urllib.request as u;'
        " print(json.load(u.urlopen('http://127.0.0.1:8222/varz', timeout=5))['config_load_time'])\""
    )
    before, pid = shell(machine, loaded), shell(machine, "pgrep -x nats-server")
    machine.run("systemctl", "reload", "borough-nats")
    until(machine, f'[ "$({loaded})" != "{before.strip()}" ]', 10)
    assert shell(machine, "pgrep -x nats-server") == pid


def test_a_program_that_hangs_is_started_again(machine: Machine) -> None:
    """nats-server stands still: the pulse finds no life, the watchdog ends it, and another one serves."""
    before = shell(machine, "pgrep -x nats-server").strip()
    began = time.monotonic()
    shell(machine, f"kill -STOP {before}")
    until(machine, f"pid=$(pgrep -x nats-server) && [ $pid != {before} ] && systemctl is-active borough-nats", 45)
    assert time.monotonic() - began > WATCHDOG_S / 2
    assert shown(machine, "borough-nats", "NRestarts")["NRestarts"] == "1"
    assert "watchdog" in shell(machine, "journalctl --no-pager -u borough-nats | grep -i watchdog").lower()


def test_a_program_that_serves_again_has_its_first_pause_back(machine: Machine) -> None:
    """Its restarts count for nothing once it has served for a minute, which is looked for every minute."""
    until(machine, "[ $(systemctl show -P NRestarts borough-nats) = 0 ]", 150)
    assert "serve again: borough-nats.service" in shell(machine, "journalctl --no-pager -u borough-backoff")


def test_an_asterisk_that_hangs_is_started_again(machine: Machine) -> None:
    """Asterisk stands still: who looks after it kills it, and both serve again."""
    before = shell(machine, "systemctl show -P MainPID borough-asterisk").strip()
    shell(machine, f"kill -STOP {before}")
    active = "systemctl is-active borough-asterisk borough-asterisk-pulse"
    until(machine, f"[ $(systemctl show -P MainPID borough-asterisk) != {before} ] && {active}", 60)
    assert "no answer for 5 s" in shell(machine, "journalctl --no-pager -u borough-asterisk-pulse")
    shell(machine, "pgrep -x asterisk")


def test_a_node_that_has_just_booted_takes_no_calls(machine: Machine) -> None:
    """tmpfiles.d puts the cordon there at boot, and at no other time."""
    line = "systemd-tmpfiles --create {} /etc/tmpfiles.d/borough.conf; ls /run/borough"
    assert "cordon" not in shell(machine, line.format(""))
    assert "cordon" in shell(machine, line.format("--boot"))
    assert shell(machine, "stat -c '%a %U %G' /run/borough").strip() == "3770 root borough"


def test_a_second_play_changes_nothing(node: UnitNode) -> None:
    """Also as a check, which may not need what a real run would have made."""
    recap = re.search(r"changed=(\d+) .*failed=(\d+)", node.play("--check"))
    assert recap is not None
    assert recap.groups() == ("0", "0")
