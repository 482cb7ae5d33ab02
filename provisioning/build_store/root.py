"""Debian 13 roots: the bare machine that tests provision, and the minimal one that packages are resolved against.

Each is built once and kept under a name made of its recipe's hash, like the Asterisk image. A root carries no identity:
no host keys, no machine-id. Whoever boots it as a machine copies it or mounts it as a volatile overlay.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from provisioning.asterisk.mirror import find_mirror
from provisioning.build_store.commands import need_programs, need_room, need_root, run
from provisioning.build_store.errors import BuildError
from provisioning.staging import staged

REPOSITORY = Path(__file__).resolve().parents[2]
RECIPE_DIRECTORY = REPOSITORY / "images" / "node"
STATE_DIRECTORY = REPOSITORY / ".state" / "images"
KEY_NAME = "ssh_key"
# Written last: with it the root is whole.
MANIFEST = "manifest.json"

# 27 s measured on two cores with a near mirror; a slow line needs minutes for 80 MB of packages.
BUILD_TIMEOUT_S = 1200.0
NEEDED_BYTES = 1 << 30
# Grows when the way of building changes in a manner that the package list does not show.
RECIPE_VERSION = 2
# Debian makes host keys when the package is installed; a machine made of a copied root makes its own at first boot.
_HOST_KEY_UNIT = """[Unit]
Description=Host keys of this machine, made at its first boot
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
Before=ssh.service

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N "" -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=ssh.service
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RootRecipe:
    """What a root is made of; no packages: Debian's minbase."""

    suite: str
    packages: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Changes with everything that makes the root's content."""
        text = json.dumps([RECIPE_VERSION, self.suite, list(self.packages), _HOST_KEY_UNIT])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_lines(path: Path) -> tuple[str, ...]:
    """Return the lines of a list without comments and blanks."""
    lines = (line.split("#", 1)[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(line for line in lines if line)


def read_suite(directory: Path = RECIPE_DIRECTORY) -> str:
    """Return the Debian release of nodes."""
    return read_lines(directory / "suite.txt")[0]


def ensure_debian_root(state_directory: Path = STATE_DIRECTORY) -> Path:
    """Return a bare Debian 13 machine with sshd and python3, building it when it is not there yet (half a minute).

    `ssh_key(root)` is the key that its root user lets in. Raises BuildError.
    """
    packages = read_lines(RECIPE_DIRECTORY / "bare.txt")
    return _ensure(RootRecipe(suite=read_suite(), packages=packages), "debian", state_directory)


def ensure_bootable_root(state_directory: Path = STATE_DIRECTORY) -> Path:
    """Return a bare machine with a kernel and a boot loader, from which disk images are made. Raises BuildError."""
    packages = [*read_lines(RECIPE_DIRECTORY / "bare.txt"), *read_lines(RECIPE_DIRECTORY / "boot.txt")]
    return _ensure(RootRecipe(suite=read_suite(), packages=tuple(packages)), "bootable", state_directory)


def ensure_minimal_root(state_directory: Path = STATE_DIRECTORY) -> Path:
    """Return Debian's minbase, against which packages are resolved. Raises BuildError."""
    return _ensure(RootRecipe(suite=read_suite(), packages=()), "minimal", state_directory)


def ssh_key(root: Path) -> Path:
    """Private key of whoever administers machines made of this root; only for tests, made beside the root."""
    return root.parent / KEY_NAME


def _ensure(recipe: RootRecipe, kind: str, state_directory: Path) -> Path:
    target = state_directory / f"{kind}-{recipe.digest}"
    if (target / MANIFEST).is_file():
        return target / "root"
    need_root("building a Debian root")
    need_programs("mmdebstrap", "ssh-keygen")
    state_directory.mkdir(parents=True, exist_ok=True)
    need_room(state_directory, NEEDED_BYTES)
    with staged(target, MANIFEST) as staging:
        _build_into(staging, recipe)
    return target / "root"


def _build_into(staging: Path, recipe: RootRecipe) -> None:
    staging.chmod(0o755)
    root = staging / "root"
    mirror = find_mirror()
    run(bootstrap_command(recipe, root, mirror), timeout_s=BUILD_TIMEOUT_S)
    if recipe.packages:
        _make_machine(root, staging)
    (staging / MANIFEST).write_text(
        json.dumps({"suite": recipe.suite, "mirror": mirror, "packages": installed_packages(root)}, indent=1) + "\n",
        encoding="utf-8",
    )


def bootstrap_command(recipe: RootRecipe, root: Path, mirror: str) -> list[str]:
    """The mmdebstrap command; `Check-Valid-Until` is off because mirrors frozen in time serve expired indexes."""
    include = [f"--include={','.join(recipe.packages)}"] if recipe.packages else []
    return [
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        '--aptopt=Acquire::Check-Valid-Until "false"',
        '--aptopt=APT::Install-Recommends "false"',
        *include,
        recipe.suite,
        str(root),
        mirror,
    ]


def installed_packages(root: Path) -> dict[str, str]:
    """Return the version of every Debian package of a root. Raises BuildError."""
    query = ["dpkg-query", f"--admindir={root / 'var/lib/dpkg'}", "-W", "-f", "${Package} ${Version}\\n"]
    lines = run(query, timeout_s=60.0).splitlines()
    return dict(line.split(" ", 1) for line in sorted(lines))


def remove_identity(root: Path) -> None:
    """Take away what makes one machine differ from another; the next boot makes it anew."""
    for path in (root / "etc/ssh").glob("ssh_host_*"):
        path.unlink()
    # Empty, not missing: systemd then makes one up at boot without taking this for the very first boot.
    (root / "etc/machine-id").write_text("", encoding="utf-8")
    (root / "var/lib/dbus/machine-id").unlink(missing_ok=True)
    (root / "var/lib/systemd/random-seed").unlink(missing_ok=True)
    # mmdebstrap lays the build machine's name and name servers into every root.
    (root / "etc/hostname").unlink(missing_ok=True)
    if not (root / "etc/resolv.conf").is_symlink():
        (root / "etc/resolv.conf").write_text("", encoding="utf-8")


def make_host_keys_at_boot(root: Path) -> None:
    """Have each machine made of this root generate its own SSH host key."""
    unit = root / "etc/systemd/system/ssh-host-keys.service"
    unit.write_text(_HOST_KEY_UNIT, encoding="utf-8")
    wants = root / "etc/systemd/system/ssh.service.wants"
    wants.mkdir(exist_ok=True)
    link = wants / unit.name
    link.unlink(missing_ok=True)
    link.symlink_to(f"/etc/systemd/system/{unit.name}")


def _make_machine(root: Path, staging: Path) -> None:
    if not (root / "usr/sbin/sshd").is_file():
        raise BuildError(f"{root} has no sshd", hint="keep openssh-server in images/node/bare.txt")
    remove_identity(root)
    make_host_keys_at_boot(root)
    # A machine without a way out: it installs from the store or not at all.
    (root / "etc/apt/sources.list").write_text("", encoding="utf-8")
    key = staging / KEY_NAME
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "borough tests", "-f", str(key)], timeout_s=30.0)
    folder = root / "root/.ssh"
    folder.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(key.with_suffix(".pub"), folder / "authorized_keys")
    (folder / "authorized_keys").chmod(0o600)
