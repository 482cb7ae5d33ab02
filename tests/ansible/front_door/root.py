"""A Debian 13 root with the very packages that the roles install, made once; programs of it run in namespaces."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from provisioning.asterisk.image import BUILD_TIMEOUT_S, STATE_DIRECTORY, ImageRecipe, build_command
from provisioning.asterisk.mirror import find_mirror
from tests.ansible.front_door.network import Host

# As a machine too: what a bare server has, and what Ansible's apt module needs.
RECIPE = ImageRecipe(
    suite="trixie",
    packages=(
        *("systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "python3-apt", "iproute2"),
        *("kamailio", "kamailio-tls-modules", "keepalived", "nftables", "ca-certificates"),
    ),
)
# Everything ends with the shell that starts it: the process namespace takes its children along.
_ENTER = """
mount --bind "$2" "$1/srv"
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mkdir -p "$1/run/kamailio"
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
root=$1
shift 2
exec chroot "$root" "$@"
"""


def require_root() -> Path:
    """The root; built in half a minute when it is not there yet."""
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        pytest.skip("root and mmdebstrap are needed: apt-get install mmdebstrap")
    target = STATE_DIRECTORY / f"front-door-{RECIPE.digest}"
    if not target.is_dir():
        STATE_DIRECTORY.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".front-door-", dir=STATE_DIRECTORY))
        try:
            staging.chmod(0o755)
            subprocess.run(
                build_command(RECIPE, staging / "root", find_mirror()),
                check=True,
                capture_output=True,
                timeout=BUILD_TIMEOUT_S,
            )
            staging.rename(target)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    return target / "root"


def inside(host: Host, root: Path, directory: Path, *argv: str) -> list[str]:
    """The command that runs a program of the root on a host; `directory` is its /srv."""
    enter = ("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-eu", "-c", _ENTER, "front-door")
    return host.command("setpriv", "--pdeathsig", "KILL", *enter, str(root), str(directory), *argv)


@contextmanager
def running(argv: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the end of the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.kill()
            process.wait(timeout=10)
