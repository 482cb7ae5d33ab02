"""The source that a release is made of: which commit, and the wheel of it."""

import hashlib
import os
import re
import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import InvalidVersion, Version

from contract.names import MAX_DIGITS, is_release
from provisioning.build_store.commands import need_programs, run
from provisioning.build_store.errors import BuildHostError
from provisioning.build_store.pip import build_wheel
from provisioning.build_store.wheels import Wheel, describe_wheel

GIT_TIMEOUT_S = 60.0
# What hatchling packs, as pyproject.toml says.
PACKAGES = ("contract", "edge", "controlplane", "provisioning", "bench")
_VERSION_LINE = re.compile(r'^version = ".*"$', re.MULTILINE)
_ALSO = ("pyproject.toml", "README.md")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A state of the repository; `version` names the release, `created_at` is the commit's own time."""

    repository: Path
    commit: str
    version: str
    digest: str
    created_at: datetime
    files: tuple[Path, ...]


def read_source(repository: Path, version: str = "") -> Source:
    """Describe the repository as it lies there. A change that is not committed shows in the version made of it;
    `version` is a PEP 440 one to use instead. Raises BuildHostError.
    """
    need_programs("git")
    if version and not _is_version(version):
        raise BuildHostError(
            f"{version!r} is no version that nodes could tell their hub",
            hint=f"a PEP 440 version with at most {MAX_DIGITS} digits before a +: 1.4.0, 1.4.0+site.20261123",
        )
    if not (repository / ".git").exists():
        raise BuildHostError(
            f"{repository} is no git checkout", hint="build from a clone: the manifest names its commit"
        )
    git = ["git", "-c", f"safe.directory={repository}", "-C", str(repository)]
    commit = run([*git, "rev-parse", "HEAD"], timeout_s=GIT_TIMEOUT_S).strip()
    seconds = os.environ.get("SOURCE_DATE_EPOCH") or run([*git, "show", "-s", "--format=%ct"], timeout_s=GIT_TIMEOUT_S)
    wanted = ["--", *PACKAGES, *_ALSO]
    listed = run([*git, "ls-files", "-z", "-co", "--exclude-standard", *wanted], timeout_s=GIT_TIMEOUT_S)
    files = tuple(sorted(Path(name) for name in listed.split("\0") if name and (repository / name).is_file()))
    is_changed = bool(run([*git, "status", "--porcelain", *wanted], timeout_s=GIT_TIMEOUT_S).strip())
    digest = _digest(repository, files)
    base = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return Source(
        repository=repository,
        commit=commit,
        version=version or f"{base}+g{commit[:12]}" + (f".changed.c{digest[:8]}" if is_changed else ""),
        digest=digest,
        created_at=datetime.fromtimestamp(int(seconds), UTC),
        files=files,
    )


def make_wheel(source: Source, directory: Path) -> Wheel:
    """Make Borough's own wheel from a copy of the source, under the release's version. Raises BuildError."""
    with tempfile.TemporaryDirectory(prefix=".source-", dir=directory) as scratch:
        copy = Path(scratch) / "source"
        for file in source.files:
            (copy / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.repository / file, copy / file)
        _set_version(copy / "pyproject.toml", source.version)
        made = build_wheel(str(copy), Path(scratch) / "made")
        return describe_wheel(made.replace(directory / made.name))


def _is_version(text: str) -> bool:
    try:
        version = Version(text)
    except InvalidVersion:
        return False
    return str(version) == text and is_release(version.public)


def _set_version(project_file: Path, version: str) -> None:
    text = project_file.read_text(encoding="utf-8")
    project_file.write_text(_VERSION_LINE.sub(f'version = "{version}"', text, count=1), encoding="utf-8")


def _digest(repository: Path, files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file}\0".encode())
        digest.update(hashlib.sha256((repository / file).read_bytes()).digest())
    return digest.hexdigest()
