"""The Debian packages of the roles, as a flat repository that apt on a node reads from a folder.

apt itself resolves them, against the status of a minimal Debian 13 root, so the closure is what a node's apt will want.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioning.asterisk.mirror import find_mirror
from provisioning.build_store.archive import sha256_of
from provisioning.build_store.commands import need_programs, run
from provisioning.build_store.errors import BuildCommandError, BuildError

# 130 MB over a slow line.
DOWNLOAD_TIMEOUT_S = 1800.0
KEYRING = "usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True, slots=True, kw_only=True)
class DebianPackage:
    """One package of the store."""

    name: str
    version: str
    architecture: str
    path: Path
    sha256: str
    control: str


def collect_debs(names: Sequence[str], *, suite: str, minimal_root: Path, directory: Path) -> list[DebianPackage]:
    """Download the closure of these packages into `directory` and index it. Raises BuildError."""
    need_programs("apt-get", "dpkg-deb")
    with tempfile.TemporaryDirectory(prefix=".apt-", dir=directory) as scratch:
        apt = _prepare_apt(Path(scratch), minimal_root, suite)
        run([*apt, "update"], timeout_s=DOWNLOAD_TIMEOUT_S)
        try:
            run([*apt, "--yes", "--download-only", "install", *names], timeout_s=DOWNLOAD_TIMEOUT_S)
        except BuildCommandError as error:
            raise BuildError(f"apt cannot have all of images/node/packages.txt: {error}") from error
        packages = [_take(path, directory) for path in sorted((Path(scratch) / "archives").glob("*.deb"))]
    packages.sort(key=lambda one: one.path.name)
    write_index(packages, directory)
    return packages


def write_index(packages: Sequence[DebianPackage], directory: Path) -> None:
    """Write Packages and Release, from which apt reads a flat repository."""
    index = directory / "Packages"
    index.write_text("\n".join(map(_stanza, packages)), encoding="utf-8")
    # One date for all times: the same packages give the same archive.
    fields = "Origin: Borough\nSuite: borough\nArchitectures: amd64\nDate: Thu, 01 Jan 1970 00:00:00 UTC\n"
    sums = f"SHA256:\n {sha256_of(index)} {index.stat().st_size} Packages\n"
    (directory / "Release").write_text(fields + sums, encoding="utf-8")


def read_index(directory: Path) -> Iterator[dict[str, str]]:
    """Yield the fields of each package in a repository."""
    for stanza in (directory / "Packages").read_text(encoding="utf-8").strip().split("\n\n"):
        pairs = (line.partition(":") for line in stanza.splitlines() if not line.startswith(" "))
        yield {name: value.strip() for name, _, value in pairs}


def _prepare_apt(scratch: Path, root: Path, suite: str) -> list[str]:
    """A private apt: the root's status, this machine's mirror and proxy settings, none of its packages."""
    for folder in ("lists/partial", "archives/partial", "etc"):
        (scratch / folder).mkdir(parents=True)
    shutil.copyfile(root / "var/lib/dpkg/status", scratch / "status")
    source = f"deb [arch=amd64 signed-by={root / KEYRING}] {find_mirror()} {suite} main\n"
    (scratch / "etc/sources.list").write_text(source, encoding="utf-8")
    options = {
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        # Mirrors frozen in time serve expired indexes.
        "Acquire::Check-Valid-Until": "false",
        "Acquire::Languages": "none",
        "Dir::State": str(scratch),
        "Dir::State::status": str(scratch / "status"),
        "Dir::State::lists": str(scratch / "lists"),
        "Dir::Cache": str(scratch),
        "Dir::Cache::archives": str(scratch / "archives"),
        "Dir::Etc::sourcelist": str(scratch / "etc/sources.list"),
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::Etc::preferencesparts": "/dev/null",
    }
    return ["apt-get", "--quiet", *(word for name, value in options.items() for word in ("-o", f"{name}={value}"))]


def _take(path: Path, directory: Path) -> DebianPackage:
    control = run(["dpkg-deb", "--field", str(path)], timeout_s=60.0).strip()
    fields = dict(line.split(": ", 1) for line in control.splitlines() if ": " in line and not line.startswith(" "))
    # As in Debian's own pool: without the epoch, whose colon apt would have to escape.
    version = fields["Version"].split(":", 1)[-1]
    target = directory / f"{fields['Package']}_{version}_{fields['Architecture']}.deb"
    path.replace(target)
    return DebianPackage(
        name=fields["Package"],
        version=fields["Version"],
        architecture=fields["Architecture"],
        path=target,
        sha256=sha256_of(target),
        control=control,
    )


def _stanza(package: DebianPackage) -> str:
    size = package.path.stat().st_size
    return f"{package.control}\nFilename: ./{package.path.name}\nSize: {size}\nSHA256: {package.sha256}\n"
