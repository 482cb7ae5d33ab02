"""One systemd machine inside this one: a Debian root under an overlay of its own, booted by systemd-nspawn.

Its disk outlives its power: what it wrote is there when it boots again. Kernel, clock and cores are this machine's.

    <directory>/disk/        what it wrote over the shared root
    <directory>/mounted/     its root file system
    <directory>/console.log  what it printed
    <directory>/pid          systemd-nspawn, while it runs
"""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from provisioning.machines.bridge import host_side
from provisioning.machines.cgroups import CgroupNest
from provisioning.machines.errors import MachineCommandError, MachineStartError, MachineUnableError
from provisioning.machines.plan import MachinesPlan, Place

BOOT_TIMEOUT_S = 60.0
POWER_OFF_TIMEOUT_S = 90.0
COMMAND_TIMEOUT_S = 120.0
LOOK_EVERY_S = 0.2
SSH_PORT = 22
CONSOLE_TAIL_BYTES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine at its place. `root` is the Debian root that all share, `key` the private key that opens it."""

    place: Place
    plan: MachinesPlan
    directory: Path
    root: Path
    key: Path

    @property
    def mounted(self) -> Path:
        return self.directory / "mounted"

    @property
    def console(self) -> Path:
        return self.directory / "console.log"

    @property
    def pid(self) -> int | None:
        """Process id of its systemd-nspawn; None while it is off."""
        try:
            pid = int((self.directory / "pid").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None
        return pid if _runs(pid) else None

    @property
    def init_pid(self) -> int | None:
        """Process id, seen from here, of the machine's own first process."""
        if self.pid is None:
            return None
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split()
        return int(children[0]) if children else None

    def start(self) -> None:
        """Boot it and wait until it answers on SSH. Raises MachineStartError, MachineUnableError."""
        if self.pid is not None:
            return
        self._mount()
        self._write_settings()
        self._boot()
        self._wait_for_ssh()

    def power_off(self) -> None:
        """Shut it down as its power button does; what does not end is cut off. Its disk stays."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            if not _ended_within(pid, POWER_OFF_TIMEOUT_S):
                self.cut_power()
        self._after_the_end()

    def cut_power(self) -> None:
        """End everything on it at once, as when the cable is pulled. Its disk stays as it is."""
        # Its first process before systemd-nspawn: the kernel then ends all others with it.
        for pid in (self.init_pid, self.pid):
            if pid is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            if not _ended_within(pid, POWER_OFF_TIMEOUT_S):
                raise MachineStartError(f"{self.place.name} does not end")
        self._after_the_end()

    def destroy(self) -> None:
        """Cut its power and throw its disk away."""
        self.cut_power()
        shutil.rmtree(self.directory, ignore_errors=True)

    def replace(self) -> None:
        """What stood here is gone with its disk; a bare machine boots at its place. Raises MachineStartError."""
        self.destroy()
        self.start()

    def ssh(self, *command: str) -> list[str]:
        """The command line that runs `command` on the machine as root, or opens a shell."""
        options = {
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ConnectTimeout": "5",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-i", str(self.key), *words, f"root@{self.place.address}", *command]

    def run(self, *command: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """What a command on the machine prints. Raises MachineCommandError when it fails."""
        line = shlex.join(command)
        try:
            done = subprocess.run(self.ssh(line), check=False, capture_output=True, text=True, timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise MachineCommandError(f"{self.place.name}: {line}: no end after {timeout_s:.0f} s") from None
        if done.returncode != 0:
            raise MachineCommandError(
                f"{self.place.name}: {line}: exit code {done.returncode}\n{done.stdout}{done.stderr}".rstrip()
            )
        return done.stdout

    def _mount(self) -> None:
        for name in ("disk", "work", "mounted"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        if not os.path.ismount(self.mounted):
            layers = f"lowerdir={self.root},upperdir={self.directory / 'disk'},workdir={self.directory / 'work'}"
            _run("mount", "-t", "overlay", "borough", "-o", layers, str(self.mounted))

    def _write_settings(self) -> None:
        """What a rack gives to a machine: a name, an address, who may come in."""
        etc = self.mounted / "etc"
        (etc / "hostname").write_text(f"{self.place.name}\n", encoding="utf-8")
        network = etc / "systemd" / "network" / "10-host0.network"
        network.parent.mkdir(parents=True, exist_ok=True)
        network.write_text(
            f"[Match]\nName=host0\n\n[Network]\nAddress={self.place.address}/{self.plan.prefix_length}\n"
            f"Gateway={self.plan.gateway}\nLinkLocalAddressing=no\n",
            encoding="utf-8",
        )
        keys = self.mounted / "root" / ".ssh"
        keys.mkdir(mode=0o700, parents=True, exist_ok=True)
        (keys / "authorized_keys").write_bytes(self.key.with_suffix(".pub").read_bytes())
        (keys / "authorized_keys").chmod(0o600)
        _run("chroot", str(self.mounted), "systemctl", "enable", "--quiet", "systemd-networkd", "ssh")

    def _boot(self) -> None:
        boot = [
            "systemd-nspawn",
            "--quiet",
            f"--directory={self.mounted}",
            f"--machine={self.place.label}",
            f"--hostname={self.place.name}",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            f"--network-bridge={self.plan.bridge}",
        ]
        script = f"{CgroupNest(self.place.label).enter_script()}\nexec {shlex.join(boot)}"
        # It outlives whoever boots it, so that it is nobody's child; setsid, begun in the background, does not fork.
        with self.console.open("ab") as console:
            started = subprocess.run(
                ["sh", "-c", 'exec 3>&1 >&2; setsid sh -eu -c "$1" </dev/null 3>&- & echo $! >&3', "boot", script],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=console,
            )
        (self.directory / "pid").write_bytes(started.stdout)

    def _wait_for_ssh(self) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.pid is None:
                raise MachineStartError(f"{self.place.name} ended while booting; {self._console_end()}")
            with contextlib.suppress(OSError), socket.create_connection((self.place.address, SSH_PORT), 1.0) as opened:
                opened.settimeout(5.0)
                if opened.recv(4) == b"SSH-":
                    return
            time.sleep(LOOK_EVERY_S)
        raise MachineStartError(f"nobody answers on {self.place.name} ({self.place.address}); {self._console_end()}")

    def _console_end(self) -> str:
        end = self.console.read_bytes()[-CONSOLE_TAIL_BYTES:].decode(errors="replace")
        return f"the end of {self.console}:\n{end}"

    def _after_the_end(self) -> None:
        """Remove what systemd-nspawn leaves here when it ends by itself or is killed."""
        (self.directory / "pid").unlink(missing_ok=True)
        CgroupNest(self.place.label).remove()
        subprocess.run(["ip", "link", "delete", host_side(self.place)], check=False, capture_output=True)
        if os.path.ismount(self.mounted):
            _run("umount", "--lazy", str(self.mounted))


def _ended_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while _runs(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _runs(pid: int) -> bool:
    """Whether a process is there and is more than a zombie that nobody asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _run(*command: str | Path) -> None:
    try:
        subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise MachineUnableError(f"there is no {error.filename} here") from None
    except subprocess.CalledProcessError as error:
        raise MachineUnableError(f"{' '.join(map(str, command))}: {error.stderr.strip()}") from error
