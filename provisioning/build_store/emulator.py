"""An emulated machine that boots a disk image, given what an operator would give it; commands go over SSH.

Software emulation, for a build machine that is a machine of somebody's cloud itself may have no KVM that runs UEFI
firmware. What that makes slow is allowed for by drop-ins that only this machine gets; the image's units stay as they
are.
"""

import base64
import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from provisioning.build_store.commands import need_programs, run
from provisioning.build_store.errors import BuildHostError, NodeImageError

FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
FIRMWARE_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
PROGRAMS = ("qemu-system-x86_64", "mkfs.vfat", "mcopy", "ssh", "ssh-keygen")
# 40 s to a login on an idle core pair, some minutes on a busy one.
BOOT_TIMEOUT_S = 900.0
COMMAND_TIMEOUT_S = 1200.0
# So that growing is tried, too.
GROWN_BYTES = 4 << 30
MEMORY_MIB = 4096
LOGIN = b"login:"
# What qemu's network gives to its only machine, and what this one is there.
ADDRESS = "10.0.2.15"
HOST_ADDRESS = "10.0.2.2"
# The label by which the image knows an operator's disk.
GIVEN_LABEL = "BOROUGH"
GIVEN_BYTES = 16 << 20
# An emulated processor is thirty times slower than watchdogs and patience with a real one allow.
PATIENCE = "[Service]\nWatchdogSec=0\nTimeoutStartSec=1200\n"
# systemd gives up on a console or a disk that udev has not come to within 90 s.
KERNEL_WORDS = "systemd.default_device_timeout_sec=1200 systemd.default_timeout_start_sec=1200"
IMPATIENT_UNITS = (
    "borough-first-boot",
    "borough-enrol",
    "borough-nats",
    "borough-inference",
    "borough-asterisk",
    "borough-asterisk-pulse",
    "borough-agent",
    "borough-litestream",
    "borough-calls@",
    "borough-selftest",
    "borough-roster",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command said; `status` is its exit status."""

    status: int
    text: str
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedMachine:
    """A machine that runs."""

    key: Path
    port: int
    console: Path
    powered_on_s: float
    process: subprocess.Popen[str] = field(repr=False)

    def ask(self, command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> Answer:
        """Run a shell command there as root; 255 when nobody answers, 124 when it does not end."""
        words = ["ssh", "-i", str(self.key), "-p", str(self.port), "-o", "StrictHostKeyChecking=no"]
        words += ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=20"]
        began = time.monotonic()
        try:
            done = subprocess.run(
                [*words, "root@127.0.0.1", command], capture_output=True, text=True, timeout=timeout_s, check=False
            )
            status, text = done.returncode, done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            status, text = 124, f"no end after {timeout_s:.0f} s"
        return Answer(status=status, text=text.strip(), took_s=round(time.monotonic() - began, 1))

    def wait_for_login(self) -> float:
        """Until the console asks who is there; seconds since power on. Raises NodeImageError."""
        self._wait("no login", lambda: LOGIN in self.read_console())
        return round(time.monotonic() - self.powered_on_s, 1)

    def wait_for_ssh(self) -> None:
        """Until it lets us in. Raises NodeImageError."""
        self._wait("nobody answers on SSH", lambda: self.ask("true", timeout_s=60).status == 0)

    def read_console(self) -> bytes:
        with contextlib.suppress(FileNotFoundError):
            return self.console.read_bytes()
        return b""

    def _wait(self, what: str, is_done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while not is_done():
            if self.process.poll() is not None:
                raise NodeImageError(f"{what}: the emulator ended: {self.process.communicate()[1]}")
            if time.monotonic() > deadline:
                end = self.read_console()[-2000:].decode(errors="replace")
                raise NodeImageError(f"{what} after {BOOT_TIMEOUT_S:.0f} s; the end of its console:\n{end}")
            time.sleep(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What an operator gives to a machine at its first boot.

    `disk`: files of a disk labelled BOROUGH, by their path; `credentials`: systemd's, by name.
    """

    disk: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


@contextmanager
def powered_on(image: Path, given: Given, scratch: Path) -> Iterator[EmulatedMachine]:
    """Boot a copy of the image on a larger disk, with a key of its own to let us in. Raises BuildError.

    `scratch` is made, and removed at the end.
    """
    need_programs(*PROGRAMS)
    if not FIRMWARE.exists():
        raise BuildHostError(f"there is no {FIRMWARE}", hint="apt-get install ovmf")
    scratch.mkdir(parents=True)
    key, port, console = scratch / "key", _free_port(), scratch / "console.log"
    try:
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], timeout_s=30)
        disk = _grown_copy(image, scratch / "disk.raw")
        key_file = {"authorized_keys": key.with_suffix(".pub").read_text(encoding="utf-8")}
        seed = _disk_of({**given.disk, **key_file}, scratch)
        shutil.copyfile(FIRMWARE_VARIABLES, scratch / "firmware.fd")
        command = _command(scratch, [disk, seed], given, port)
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
            try:
                yield EmulatedMachine(key=key, port=port, console=console, powered_on_s=began, process=process)
            finally:
                process.kill()
    finally:
        shutil.rmtree(scratch)


def _command(scratch: Path, disks: Sequence[Path], given: Given, port: int) -> list[str]:
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"]
    command += ["-m", str(MEMORY_MIB), "-display", "none", "-no-reboot", "-serial", f"file:{scratch / 'console.log'}"]
    command += ["-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}"]
    command += ["-drive", f"if=pflash,format=raw,file={scratch / 'firmware.fd'}"]
    for disk in disks:
        command += ["-drive", f"file={disk},format=raw,if=virtio,cache=unsafe"]
    patience = {f"systemd.unit-dropin.{unit}.service~emulated": PATIENCE for unit in IMPATIENT_UNITS}
    for name, text in {**patience, **given.credentials}.items():
        encoded = base64.b64encode(text.encode()).decode("ascii")
        command += ["-smbios", f"type=11,value=io.systemd.credential.binary:{name}={encoded}"]
    command += ["-smbios", f"type=11,value=io.systemd.boot.kernel-cmdline-extra={KERNEL_WORDS}"]
    # Nothing gets out of it but answers to us.
    return [*command, "-nic", f"user,model=virtio-net-pci,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"]


def _grown_copy(image: Path, disk: Path) -> Path:
    run(["cp", "--sparse=always", str(image), str(disk)], timeout_s=600)
    with disk.open("r+b") as file:
        file.truncate(image.stat().st_size + GROWN_BYTES)
    return disk


def _disk_of(files: Mapping[str, str], scratch: Path) -> Path:
    """A disk as an operator makes it, with mkfs.vfat and mcopy."""
    content, seed = scratch / "given", scratch / "given.raw"
    for name, text in files.items():
        path = content / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    with seed.open("wb") as file:
        file.truncate(GIVEN_BYTES)
    run(["mkfs.vfat", "-n", GIVEN_LABEL, str(seed)], timeout_s=30)
    run(["mcopy", "-s", "-i", str(seed), *map(str, sorted(content.iterdir())), "::/"], timeout_s=30)
    return seed


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
