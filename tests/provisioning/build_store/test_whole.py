"""A store is built, built again from the cache, and installed on a bare Debian 13 that has no network."""

import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.build_store.debs import read_index
from provisioning.build_store.manifest import verify_store
from provisioning.build_store.root import REPOSITORY, ensure_debian_root, installed_packages
from provisioning.build_store.store import Order, build_store

STATE = REPOSITORY / ".state"
PROGRAMS = ("mmdebstrap", "systemd-nspawn", "git", "zstd", "ssh-keygen")
pytestmark = [
    pytest.mark.region,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.geteuid() != 0 or any(shutil.which(program) is None for program in PROGRAMS),
        reason="a build host needs root, mmdebstrap and systemd-nspawn",
    ),
]
# What the Python of nodes must do: install every wheel by its hash, and import every module of ours.
INSTALL = """
set -eu
mkdir /tmp/debs /tmp/wheels
tar xf /store/debs.tar -C /tmp/debs
tar xf /store/wheels.tar -C /tmp/wheels
echo 'deb [trusted=yes] file:/tmp/debs ./' > /etc/apt/sources.list
apt-get -qq update
DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install $PACKAGES >/dev/null
python3 -m venv /opt/venv
/opt/venv/bin/pip install -q --no-index --find-links /tmp/wheels --require-hashes -r /tmp/wheels/requirements.txt
/opt/venv/bin/pip install -q --no-index --no-deps /store/borough-*.whl
/opt/venv/bin/pip check
cd /
/opt/venv/bin/python - <<'END'
import importlib, pkgutil, sys
count = 0
for package in ("contract", "edge", "controlplane", "provisioning", "bench"):
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(module.__path__, package + "."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
            count += 1
print("imported", count, "with", "%d.%d" % sys.version_info[:2])
END
/opt/venv/bin/borough --version
/opt/venv/bin/nats-server --version
/opt/venv/bin/litestream version
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("whole") / "store"
    build_store(Order(repository=REPOSITORY, state=STATE, out=directory), lambda _: None)
    yield directory
    shutil.rmtree(directory)


def test_the_second_build_takes_seconds_and_changes_nothing(store: Path) -> None:
    """What is made of the same is the same, to the byte; whoever edits the source meanwhile sees another version."""
    before = {path.name: path.read_bytes() for path in store.iterdir() if path.stat().st_size < 1 << 20}
    inodes = {path.name: path.stat().st_ino for path in store.iterdir() if path.suffix in {".tar", ".zst"}}
    version = verify_store(store).version
    started = time.monotonic()
    manifest = build_store(Order(repository=REPOSITORY, state=STATE, out=store, version=version), lambda _: None)
    assert time.monotonic() - started < 60
    assert {name: (store / name).stat().st_ino for name in inodes} == inodes
    if manifest.commit.encode() in before["manifest.json"]:
        assert (store / "SHA256SUMS").read_bytes() == before["SHA256SUMS"]


def test_the_repository_is_closed(store: Path, tmp_path: Path) -> None:
    """Every package that one in it depends on is in it, or in Debian's minbase (which apt proves below)."""
    with tarfile.open(store / "debs.tar") as archive:
        archive.extract("./Packages", tmp_path, filter="data")
    names = {fields["Package"] for fields in read_index(tmp_path)}
    wanted = (REPOSITORY / "images/node/packages.txt").read_text().splitlines()
    missing = {line for line in wanted if line and not line.startswith("#")} - names
    assert not missing
    in_manifest = {one.name for one in verify_store(store).packages if one.kind == "debian"}
    assert in_manifest == names


def test_a_bare_debian_13_installs_and_imports_all_of_it(store: Path) -> None:
    """Every package of the list, every wheel, every module of ours, under the nodes' Python, without a network."""
    root = ensure_debian_root(STATE / "images")
    assert "openssh-server" in installed_packages(root)
    packages = [
        line
        for line in (REPOSITORY / "images/node/packages.txt").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    command = ["systemd-nspawn", "--quiet", f"--directory={root}", "--volatile=overlay", "--register=no", "--keep-unit"]
    command += ["--private-network", "--as-pid2", "--pipe", f"--machine=whole-{os.getpid()}"]
    command += [f"--bind-ro={store}:/store", f"--setenv=PACKAGES={' '.join(packages)}", "sh", "-c", INSTALL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "No broken requirements found" in done.stdout
    assert "with 3.13" in done.stdout
    assert f"borough, version {verify_store(store).version}" in done.stdout
