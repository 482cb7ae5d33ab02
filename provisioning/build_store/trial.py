"""Boots a disk image in an emulated machine and asks it whether it is a node: the gate before an image is given away.

The machine gets what an operator would give it, on a disk labelled BOROUGH; there is no hub. So it is not enrolled: the
trial writes the roster that enrolment would have brought, and asks only what needs no hub.
"""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioning.build_store.commands import need_programs, run
from provisioning.build_store.errors import BuildError, NodeImageError
from provisioning.build_store.node_image import IMAGE
from provisioning.build_store.wheels import Report

FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
FIRMWARE_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
# Software emulation: 40 s to a login on an idle core pair, some minutes on a busy one.
BOOT_TIMEOUT_S = 900.0
COMMAND_TIMEOUT_S = 1200.0
GROWN_BYTES = 4 << 30
LOGIN = b"login:"
ADDRESS = "10.0.2.15"
NODE = f"""kind = "node"
[machine]
name = "trial-1"
address = "{ADDRESS}"
[region]
name = "trial"
nodes = [{{name = "trial-1", address = "{ADDRESS}"}}]
[hub]
address = "10.0.2.2"
[calls]
capacity = 1
workers = 1
"""
ROSTER = {
    "region": "trial",
    "nodes": [
        {
            "name": "trial-1",
            "address": ADDRESS,
            "state": "NODE_STATE_ACTIVE",
            "identities": [{"role": "agent", "uris": ["borough://trial/trial-1/agent/1"], "pins": ["0" * 64]}],
        }
    ],
}
# An emulated processor is thirty times slower than the watchdog of a real one allows.
PATIENCE = "[Service]\\nWatchdogSec=0\\nTimeoutStartSec=900\\n"
# Checks of `borough node self-test` that need neither hub nor siblings.
CHECKS = ("disk", "folders", "models", "inference", "asterisk")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialResult:
    """What the machine answered. `seconds_to_login` from power on."""

    seconds_to_login: float
    answers: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedMachine:
    """A machine that runs; commands go over SSH."""

    key: Path
    port: int
    console: Path

    def run(self, command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Return what a shell command prints there. Raises BuildError."""
        words = ["ssh", "-i", str(self.key), "-p", str(self.port), "-o", "StrictHostKeyChecking=no"]
        words += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20"]
        return run([*words, "root@127.0.0.1", command], timeout_s=timeout_s).strip()


def try_image(directory: Path, scratch: Path, report: Report) -> TrialResult:
    """Boot the image of this folder. Raises BuildError naming what does not work."""
    need_programs("qemu-system-x86_64", "mkfs.vfat", "mcopy", "ssh", "ssh-keygen")
    scratch.mkdir(parents=True)
    try:
        disk, given = _prepare(directory, scratch)
        with _powered_on(disk, given, scratch) as machine:
            started = time.monotonic()
            report("booting")
            _wait_for_login(machine)
            seconds = round(time.monotonic() - started, 1)
            _wait_for_ssh(machine)
            return TrialResult(seconds_to_login=seconds, answers=_ask(machine, report))
    finally:
        shutil.rmtree(scratch)


def _ask(machine: EmulatedMachine, report: Report) -> dict[str, str]:
    report("asking the machine")
    questions = {
        "system": "systemctl is-system-running --wait || systemctl --failed --no-legend --plain",
        "root": "findmnt -n -o SIZE /",
        "identity": "test -s /etc/machine-id && ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub",
        "node.toml": "grep -c trial-1 /etc/borough/node.toml",
        "release": "/opt/borough/current/bin/borough --version",
        "asterisk": "chroot /var/lib/borough/images/asterisk /usr/sbin/asterisk -V",
    }
    answers = {name: machine.run(question) for name, question in questions.items()}
    report("starting services, the self-test")
    machine.run(
        "install -d -m 0700 /etc/borough/identity\n"
        f"cat > /etc/borough/identity/roster.json <<'END'\n{json.dumps(ROSTER)}\nEND\n"
        f"install -d /run/systemd/system/borough-inference.service.d\n"
        f"printf '{PATIENCE}' > /run/systemd/system/borough-inference.service.d/slow.conf\n"
        "systemctl daemon-reload && borough node render && systemctl start borough-asterisk borough-inference"
    )
    only = " ".join(f"--only {check}" for check in CHECKS)
    answers["self-test"] = machine.run(f"borough node self-test {only}")
    return answers


def _prepare(directory: Path, scratch: Path) -> tuple[Path, Path]:
    """A larger copy of the image, so that growing is tried too, and the disk with what an operator gives."""
    disk, given, key = scratch / "disk.raw", scratch / "given.raw", scratch / "key"
    run(["cp", "--sparse=always", str(directory / IMAGE), str(disk)], timeout_s=600)
    with disk.open("r+b") as file:
        file.truncate(disk.stat().st_size + GROWN_BYTES)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], timeout_s=30)
    content = scratch / "given"
    (content / "secrets").mkdir(parents=True)
    (content / "node.toml").write_text(NODE, encoding="utf-8")
    shutil.copyfile(key.with_suffix(".pub"), content / "authorized_keys")
    for name in ("ari", "subjects", "master"):
        (content / "secrets" / name).write_text("0" * 64, encoding="ascii")
    with given.open("wb") as file:
        file.truncate(16 << 20)
    run(["mkfs.vfat", "-n", "BOROUGH", str(given)], timeout_s=30)
    members = [str(path) for path in sorted(content.iterdir())]
    run(["mcopy", "-s", "-i", str(given), *members, "::/"], timeout_s=30)
    shutil.copyfile(FIRMWARE_VARIABLES, scratch / "firmware.fd")
    return disk, given


@contextmanager
def _powered_on(disk: Path, given: Path, scratch: Path) -> Iterator[EmulatedMachine]:
    port = _free_port()
    console = scratch / "console.log"
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]
    command += ["-m", "4096", "-display", "none", "-no-reboot", "-serial", f"file:{console}"]
    command += ["-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}"]
    command += ["-drive", f"if=pflash,format=raw,file={scratch / 'firmware.fd'}"]
    command += [word for image in (disk, given) for word in ("-drive", f"file={image},format=raw,if=virtio")]
    # Nothing gets out of it but the answer to us.
    command += ["-nic", f"user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield EmulatedMachine(key=scratch / "key", port=port, console=console)
    finally:
        process.kill()
        process.communicate()


def _wait_for_login(machine: EmulatedMachine) -> None:
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError):
            if LOGIN in machine.console.read_bytes():
                return
        time.sleep(1)
    raise NodeImageError(f"no login after {BOOT_TIMEOUT_S:.0f} s; the end of its console:\n{_console_end(machine)}")


def _wait_for_ssh(machine: EmulatedMachine) -> None:
    deadline = time.monotonic() + BOOT_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(BuildError):
            machine.run("true", timeout_s=60)
            return
        time.sleep(2)
    raise NodeImageError(f"nobody answers on SSH; the end of its console:\n{_console_end(machine)}")


def _console_end(machine: EmulatedMachine) -> str:
    return machine.console.read_bytes()[-2000:].decode(errors="replace") if machine.console.exists() else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
