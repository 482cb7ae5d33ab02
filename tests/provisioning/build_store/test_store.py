"""The parts of a store come out the same for the same source, and what is missing for a build is said with its fix."""

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from provisioning.build_store.archive import pack, sha256_of
from provisioning.build_store.commands import failure, need_programs, need_room, run
from provisioning.build_store.errors import BuildCommandError, BuildDownloadError, BuildError, BuildHostError
from provisioning.build_store.root import RECIPE_DIRECTORY, RootRecipe, bootstrap_command, read_lines, read_suite
from provisioning.build_store.source import make_wheel, read_source

REPOSITORY = Path(__file__).resolve().parents[3]


def git(directory: Path, *words: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", directory, *identity, *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A small repository of the same shape."""
    directory = tmp_path / "repository"
    for package in ("contract", "edge", "controlplane", "provisioning", "bench"):
        (directory / package).mkdir(parents=True)
        (directory / package / "__init__.py").write_text(f'"""{package}"""\n')
    project = '[project]\nname = "borough"\nversion = "0.1.0"\n[build-system]\nrequires = ["hatchling"]\n'
    project += 'build-backend = "hatchling.build"\n[tool.hatch.build.targets.wheel]\n'
    project += 'packages = ["contract", "edge", "controlplane", "provisioning", "bench"]\n'
    (directory / "pyproject.toml").write_text(project)
    (directory / "README.md").write_text("# Borough\n")
    (directory / ".gitignore").write_text("__pycache__/\n")
    git(directory, "init", "--quiet")
    git(directory, "add", "-A")
    git(directory, "commit", "--quiet", "-m", "first")
    return directory


def test_the_version_names_the_commit(repository: Path) -> None:
    """What is not committed shows, what git ignores does not."""
    first = read_source(repository)
    assert first.version == f"0.1.0+g{first.commit[:12]}"
    (repository / "edge" / "__pycache__").mkdir()
    (repository / "edge" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert read_source(repository) == first
    (repository / "edge" / "new.py").write_text("")
    changed = read_source(repository)
    assert changed.version.startswith(f"{first.version}.changed.")
    assert changed.digest != first.digest
    for version in ("1.4.0", "1.4.0+site.20261123"):
        assert read_source(repository, version).version == version


def test_a_release_needs_a_proper_version_and_a_checkout(repository: Path, tmp_path: Path) -> None:
    for version in ("newest", "2026.11.23", "1.4.0rc1.dev3"):
        with pytest.raises(BuildHostError, match=f"'{version}' is no version"):
            read_source(repository, version)
    with pytest.raises(BuildHostError, match="no git checkout"):
        read_source(tmp_path)


def test_the_same_source_gives_the_same_wheel(repository: Path, tmp_path: Path) -> None:
    """The release's version is the wheel's own."""
    source = read_source(repository)
    made = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made.append(make_wheel(source, tmp_path / name))
    assert made[0].sha256 == made[1].sha256
    assert made[0].version == source.version


def test_archives_do_not_depend_on_time_and_order(tmp_path: Path) -> None:
    digests = []
    for name, files in {"a": ("x", "y"), "b": ("y", "x")}.items():
        folder = tmp_path / name
        folder.mkdir()
        for file in files:
            (folder / file).write_text(file)
        (folder / "x").chmod(0o644)
        digests.append(sha256_of(pack(folder, tmp_path / f"{name}.tar")))
    assert digests[0] == digests[1]
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert {(member.uid, member.gid, member.mtime) for member in archive} == {(0, 0, 0)}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """The real words of the real program."""
    small, source = tmp_path / "small", tmp_path / "source"
    small.mkdir()
    source.mkdir()
    (source / "large").write_bytes(bytes(4 << 20))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "none", small], check=True)
    try:
        with pytest.raises(BuildHostError, match="the disk is full, says tar") as caught:
            pack(source, small / "x.tar")
    finally:
        subprocess.run(["umount", small], check=True)
    assert "free some GiB" in caught.value.hint


@pytest.mark.parametrize(
    ("complaint", "kind", "fix"),
    [
        ("tar: x: Cannot write: No space left on device", BuildHostError, "free some GiB"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", BuildHostError, "free some GiB"),
        ("Err:1 http://m trixie InRelease\n  Temporary failure resolving 'm'", BuildDownloadError, "check the network"),
        ("Failed to establish a new connection: [Errno 101] Network is unreachable", BuildDownloadError, "pip config"),
        ("something else", BuildCommandError, ""),
    ],
)
def test_what_a_program_complains_of_is_told_with_its_fix(complaint: str, kind: type[BuildError], fix: str) -> None:
    error = failure("tar", 2, complaint)
    assert type(error) is kind
    assert complaint.splitlines()[-1] in str(error)
    assert fix in error.hint


def test_what_the_machine_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildHostError, match="missing on this machine: no-such-program") as caught:
        need_programs("tar", "no-such-program")
    assert caught.value.hint == "apt-get install no-such-program"
    with pytest.raises(BuildHostError, match="GiB free and the build needs"):
        need_room(tmp_path / "not" / "there", 1 << 60)
    with pytest.raises(BuildDownloadError, match="did not finish"):
        run(["sleep", "5"], timeout_s=0.1)


def test_the_roots_are_described_by_files() -> None:
    """The name of a root changes with what it is made of; the mirror is no part of it."""
    assert read_suite() == "trixie"
    bare = read_lines(RECIPE_DIRECTORY / "bare.txt")
    assert {"openssh-server", "python3", "systemd-sysv"} <= set(bare)
    recipe = RootRecipe(suite="trixie", packages=bare)
    assert recipe.digest != RootRecipe(suite="trixie", packages=()).digest
    command = bootstrap_command(recipe, Path("/root-of-it"), "http://mirror.example/debian")
    assert command[-3:] == ["trixie", "/root-of-it", "http://mirror.example/debian"]
