"""What makes a machine this machine is taken away before its disk becomes an image, and a check proves that it is.

The check looks at the root that is written, not at what the cleansing did.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from provisioning.build_store.commands import run
from provisioning.build_store.errors import NodeImageError
from provisioning.build_store.root import remove_identity

# Empty folders stay: they are the roles' work. Whatever lies in them is a machine's own.
EMPTIED = (
    "etc/borough/identity",
    "etc/borough/rendered",
    "etc/borough/secrets",
    "root",
    "tmp",
    "var/cache/apt/archives",
    "var/lib/apt/lists",
    "var/lib/private",
    "var/lib/systemd/coredump",
    "var/lib/systemd/timers",
    # In a folder named by the machine's id.
    "var/log/journal",
    "var/tmp",
)
REMOVED = (
    "etc/.pwd.lock",
    # What the build machine's mirror needed.
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/borough/node.toml",
    "etc/borough/token",
    "etc/hostname",
    "etc/systemd/network/10-host0.network",
    # The key that systemd-creds makes for this machine.
    "var/lib/systemd/credential.secret",
    "root/.ssh",
    "var/cache/debconf/passwords.dat",
)
# Archives that were unpacked; the note that they were verified stays, so that the roles need them no more.
_ARCHIVES = "var/cache/borough/**/*.tar*"
# With what follows the heading: libraries that read keys have the heading in them.
_KEY = re.compile(rb"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----\r?\n[A-Za-z0-9+/=:,\- \r\n]{32}")
_LOOKED_THROUGH = ("etc", "home", "opt/borough", "root", "srv", "usr/local", "var")
# A key is small; models and databases need not be read.
_LARGEST_KEY_BYTES = 1 << 20


def cleanse(root: Path) -> None:
    """Take away identity, secrets and traces of the machine that the image was made on. Raises BuildError."""
    remove_identity(root)
    for name in REMOVED:
        path = root / name
        if path.exists() or path.is_symlink():
            run(["rm", "-r", "-f", str(path)], timeout_s=60.0)
    for name in EMPTIED:
        if (root / name).is_dir():
            run(["find", str(root / name), "-mindepth", "1", "-delete"], timeout_s=300.0)
    # Programs want their folders of logs.
    if (root / "var/log").is_dir():
        run(["find", str(root / "var/log"), "-not", "-type", "d", "-delete"], timeout_s=60.0)
    for archive in root.glob(_ARCHIVES):
        if not archive.is_symlink():
            archive.unlink()


def demand_no_identity(root: Path) -> None:
    """Raises NodeImageError naming everything in a root that belongs to one machine only."""
    found = list(identity_in(root))
    if found:
        raise NodeImageError(
            f"the image would carry an identity: {'; '.join(found)}",
            hint="whichever role wrote it must do so after the install phase, or cleansing.py must remove it",
        )


def identity_in(root: Path) -> Iterator[str]:
    """Yield what a root has of an identity: keys, secrets, ids, names, who may log in."""
    machine_id = root / "etc/machine-id"
    if machine_id.exists() and machine_id.read_text(encoding="ascii").strip():
        yield "etc/machine-id is not empty"
    for pattern in (
        "etc/ssh/ssh_host_*",
        "var/lib/systemd/random-seed",
        "var/lib/systemd/credential.secret",
        "root/.ssh/*",
        "home/*/.ssh/*",
        "var/log/journal/*",
    ):
        yield from (f"{path.relative_to(root)} exists" for path in root.glob(pattern))
    for pattern in ("etc/borough/identity/**/*", "etc/borough/secrets/*", "etc/borough/token", "etc/borough/node.toml"):
        yield from (f"{path.relative_to(root)} exists" for path in root.glob(pattern))
    for name in ("root/.bash_history", "var/lib/dbus/machine-id", "etc/hostname"):
        if (root / name).exists():
            yield f"{name} exists"
    yield from _passwords(root)
    yield from _private_keys(root)


def _passwords(root: Path) -> Iterator[str]:
    for line in (root / "etc/shadow").read_text(encoding="utf-8").splitlines():
        user, password = line.split(":")[:2]
        if password.startswith("$"):
            yield f"{user} has a password"


def _private_keys(root: Path) -> Iterator[str]:
    for folder in _LOOKED_THROUGH:
        for path in sorted((root / folder).rglob("*")):
            # Packages bring keys of their own tests, the same on every machine in the world.
            if path.is_symlink() or not path.is_file() or "site-packages" in path.parts:
                continue
            if path.stat().st_size <= _LARGEST_KEY_BYTES and _KEY.search(path.read_bytes()):
                yield f"{path.relative_to(root)} holds a private key"
