"""What the role `release` does on a machine: an environment is taken over, old releases go."""

import subprocess
import sys
from pathlib import Path

FILES = Path(__file__).resolve().parents[2] / "ansible" / "roles" / "release" / "files"


def output_of(*argv: str | Path, **environment: str) -> str:
    done = subprocess.run(argv, env=environment or None, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_environment_that_was_taken_over_is_its_own(tmp_path: Path) -> None:
    """It runs from its own folder, shares what it can, and the one that it came from stays as it was."""
    old, new = tmp_path / "0.1.0", tmp_path / "0.2.0"
    output_of(sys.executable, "-m", "venv", old)
    (old / "complete").write_text("0.1.0\n", encoding="utf-8")
    before = (old / "bin" / "pip").read_text(encoding="utf-8")
    output_of("/bin/sh", FILES / "take_over.sh", old, new)
    assert output_of(new / "bin" / "python", "-c", "import sys; print(sys.prefix)") == str(new)
    assert str(new) in output_of(new / "bin" / "pip", "--version")
    assert (old / "bin" / "pip").read_text(encoding="utf-8") == before
    assert not (new / "complete").exists()
    library = next((old / "lib").glob("python*/site-packages/pip/__init__.py"))
    assert (new / library.relative_to(old)).stat().st_ino == library.stat().st_ino


def machine_with_releases(root: Path) -> None:
    """0.3 is in use, 0.2 was before it; each has a file of its own, all share another."""
    held = root / "var/cache/borough/files"
    for release, sums in (("0.1", ("aa11", "ff00")), ("0.2", ("bb22", "ff00")), ("0.3", ("cc33", "ff00"))):
        (root / "opt/borough/releases" / release).mkdir(parents=True)
        (root / "var/cache/borough" / release).mkdir(parents=True)
        for mark in sums:
            (held / mark).mkdir(parents=True, exist_ok=True)
            (held / mark / "file").touch()
            (root / "var/cache/borough" / release / f"{mark}.tar").symlink_to(f"../files/{mark}/file")
        (root / f"var/lib/borough/models-{sums[0]}").mkdir(parents=True)
    (root / "opt/borough/previous").symlink_to("releases/0.2")
    (root / "var/lib/borough/models").symlink_to("models-cc33")


def test_releases_that_nobody_goes_back_to_are_removed(tmp_path: Path) -> None:
    """With their files, but for those that others need; a second run finds nothing."""
    machine_with_releases(tmp_path)
    removed = output_of("/bin/sh", FILES / "prune.sh", "0.3", BOROUGH_ROOT=str(tmp_path), PATH="/usr/bin:/bin")
    assert {line.removeprefix(f"{tmp_path}/") for line in removed.splitlines()} == {
        "opt/borough/releases/0.1",
        "var/cache/borough/0.1",
        "var/cache/borough/files/aa11",
        "var/lib/borough/models-aa11",
    }
    assert output_of("/bin/sh", FILES / "prune.sh", "0.3", BOROUGH_ROOT=str(tmp_path), PATH="/usr/bin:/bin") == ""


def test_pruning_a_machine_with_one_release_removes_nothing(tmp_path: Path) -> None:
    """There is no release before it yet."""
    (tmp_path / "opt/borough/releases/0.1").mkdir(parents=True)
    (tmp_path / "var/cache/borough/0.1").mkdir(parents=True)
    assert output_of("/bin/sh", FILES / "prune.sh", "0.1", BOROUGH_ROOT=str(tmp_path), PATH="/usr/bin:/bin") == ""


def upgraded(root: Path, archive: Path) -> None:
    """0.1 was kept, then 0.2 changed its unit and its settings, and brought one of each."""
    units, rendered = root / "etc/systemd/system", root / "etc/borough/rendered"
    for folder in (units / "borough.target.wants", rendered, root / "opt/borough", root / "var/lib/borough"):
        folder.mkdir(parents=True)
    (units / "borough-calls@.service").write_text("0.1", encoding="utf-8")
    (rendered / "calls-1.toml").write_text("0.1", encoding="utf-8")
    (root / "etc/kamailio").mkdir()
    (root / "etc/kamailio/kamailio.cfg").write_text("0.1", encoding="utf-8")
    (root / "opt/borough/current").symlink_to("releases/0.1")
    (root / "var/lib/borough/models").symlink_to("models-aa")
    output_of("/bin/sh", FILES / "keep.sh", archive, BOROUGH_ROOT=str(root), PATH="/usr/bin:/bin")
    for path in (units / "borough-calls@.service", units / "borough-new.timer", rendered / "calls-1.toml"):
        path.write_text("0.2", encoding="utf-8")
    (root / "etc/kamailio/kamailio.cfg").write_text("0.2", encoding="utf-8")
    (rendered / "new.toml").touch()
    for link, target in (("opt/borough/current", "releases/0.2"), ("var/lib/borough/models", "models-bb")):
        (root / link).unlink()
        (root / link).symlink_to(target)


def test_the_way_back_is_complete(tmp_path: Path) -> None:
    """Links, units and settings are the old release's, and what the newer one brought is gone."""
    root, archive = tmp_path / "root", tmp_path / "before.tar"
    upgraded(root, archive)
    removed = output_of("/bin/sh", FILES / "put_back.sh", archive, BOROUGH_ROOT=str(root), PATH="/usr/bin:/bin")
    assert removed == "removed etc/systemd/system/borough-new.timer"
    assert (root / "opt/borough/current").readlink() == Path("releases/0.1")
    assert (root / "var/lib/borough/models").readlink() == Path("models-aa")
    found = {path.name: path.read_text(encoding="utf-8") for path in (root / "etc").rglob("*") if path.is_file()}
    assert found == dict.fromkeys(("borough-calls@.service", "calls-1.toml", "kamailio.cfg"), "0.1")
    assert archive.stat().st_mode & 0o777 == 0o600
