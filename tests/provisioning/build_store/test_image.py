"""An image carries no identity, and a disk made of a root is one that firmware and kernel understand."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from provisioning.build_store.archive import sha256_of
from provisioning.build_store.boot_files import TREE
from provisioning.build_store.cleansing import cleanse, demand_no_identity, identity_in
from provisioning.build_store.disk import ESP_LABEL, ESP_MIB, FIRST_MIB, ROOT_LABEL, DiskOrder, make_disk
from provisioning.build_store.errors import NodeImageError
from provisioning.build_store.manifest import Component, Manifest
from provisioning.build_store.node_image import IMAGE
from provisioning.build_store.trial import questions

KEY = f"-----BEGIN PRIVATE KEY-----\n{'MC4CAQAwBQYDK2VwBCIE':A<64}\n-----END PRIVATE KEY-----\n"
DISK_PROGRAMS = ("sfdisk", "mkfs.ext4", "mkfs.vfat", "mcopy", "mdir", "debugfs")
needs_disk_programs = pytest.mark.skipif(
    any(shutil.which(program) is None for program in DISK_PROGRAMS), reason="no programs to make disks with"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners of files need root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root as the roles leave it: software, and nothing of a machine."""
    root = tmp_path / "root"
    for folder in ("etc/ssh", "etc/borough/identity", "etc/borough/secrets", "root", "var/lib/dbus", "var/log", "home"):
        (root / folder).mkdir(parents=True)
    (root / "var/lib/systemd").mkdir()
    (root / "etc/machine-id").write_text("")
    (root / "etc/shadow").write_text("root:*:20000:0:99999:7:::\n")
    site = root / "opt/borough/releases/1/lib/python3.13/site-packages/package/tests"
    site.mkdir(parents=True)
    (site / "key.pem").write_text(KEY)
    return root


def _write(name: str, text: str) -> Callable[[Path], None]:
    def plant(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return plant


PLANTED = {
    "etc/machine-id is not empty": _write("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
    "etc/ssh/ssh_host_ed25519_key exists": _write("etc/ssh/ssh_host_ed25519_key", "x"),
    "etc/borough/identity/agent exists": _write("etc/borough/identity/agent/current", "x"),
    "etc/borough/secrets/master exists": _write("etc/borough/secrets/master", "x"),
    "etc/borough/token exists": _write("etc/borough/token", "x"),
    "etc/borough/node.toml exists": _write("etc/borough/node.toml", "x"),
    "etc/hostname exists": _write("etc/hostname", "in-south-1"),
    "root/.ssh/authorized_keys exists": _write("root/.ssh/authorized_keys", "ssh-ed25519 AAAA"),
    "root/.bash_history exists": _write("root/.bash_history", "borough node enroll"),
    "var/lib/systemd/random-seed exists": _write("var/lib/systemd/random-seed", "x"),
    "var/log/journal/0123456789abcdef exists": _write("var/log/journal/0123456789abcdef/system.journal", "x"),
    "root has a password": _write("etc/shadow", "root:$y$j9T$x:20000:0:99999:7:::\n"),
    "var/lib/borough/nats/key.pem holds a private key": _write("var/lib/borough/nats/key.pem", KEY),
}


def test_a_root_of_software_only_has_no_identity(root: Path) -> None:
    """Keys that Python packages bring for their own tests are nobody's."""
    assert list(identity_in(root)) == []


@pytest.mark.parametrize("finding", PLANTED)
def test_what_belongs_to_one_machine_is_found(root: Path, finding: str) -> None:
    PLANTED[finding](root)
    with pytest.raises(NodeImageError, match="would carry an identity") as caught:
        demand_no_identity(root)
    assert finding in str(caught.value)


def test_cleansing_takes_the_identity_away(root: Path) -> None:
    """All but a password and a key where none is expected: these are somebody's mistake and end the build."""
    for plant in PLANTED.values():
        plant(root)
    cleanse(root)
    assert sorted(identity_in(root)) == ["root has a password", "var/lib/borough/nats/key.pem holds a private key"]
    assert (root / "etc/borough/identity").is_dir()
    assert (root / "etc/machine-id").read_text() == ""


def test_the_boot_scripts_are_shell(tmp_path: Path) -> None:
    for script in ("first-boot", "enrol"):
        subprocess.run(["sh", "-n", TREE / "usr/lib/borough" / script], check=True)
        assert os.access(TREE / "usr/lib/borough" / script, os.X_OK)
    units = sorted((TREE / "etc/systemd/system").iterdir())
    for unit in units:
        shutil.copyfile(unit, tmp_path / unit.name)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in units)],
        capture_output=True,
        text=True,
        check=False,
    )
    own = [
        line
        for line in done.stderr.splitlines()
        if "borough" in line and all(word not in line for word in ("not executable", "ImportCredential"))
    ]
    assert own == []


def test_what_a_trial_asks_is_shell() -> None:
    """Each question is whole, and asks for what the manifest says."""
    kernel = Component(kind="debian", name="linux-image", version="6.12", licence="", sha256="", where=IMAGE)
    manifest = Manifest(
        version="1.2.3", commit="", created_at="", python="3.13", files=(), packages=(kernel,), models=(), asterisk={}
    )
    asked = questions(manifest, 4096)
    for question in asked.values():
        subprocess.run(["sh", "-n", "-c", question], check=True)
    assert hashlib.sha256(b"linux-image 6.12\n").hexdigest() in asked["packages"]
    assert "1.2.3" in asked["release"]
    assert "-gt 4096" in asked["disk has grown"]


@pytest.mark.skipif(shutil.which("nft") is None or os.geteuid() != 0, reason="no nft, or not root")
def test_the_firewall_of_the_first_boot_is_one() -> None:
    subprocess.run(["nft", "--check", "--file", TREE / "etc/nftables.conf"], check=True)


@needs_disk_programs
@needs_root
def test_a_disk_has_what_its_root_had(root: Path, tmp_path: Path) -> None:
    """Two partitions, found by their types; owners and modes of files are kept, and the same root gives one table."""
    (root / "etc/secret").write_text("x")
    (root / "etc/secret").chmod(0o640)
    os.chown(root / "etc/secret", 0, 61101)
    esp = tmp_path / "esp"
    (esp / "EFI/BOOT").mkdir(parents=True)
    (esp / "EFI/BOOT/BOOTX64.EFI").write_bytes(b"MZ")
    target = tmp_path / "node.raw"
    make_disk(DiskOrder(root=root, esp=esp, target=target, seed="1", epoch=1))
    table = json.loads(subprocess.run(["sfdisk", "--json", target], capture_output=True, check=True).stdout)
    names = [part["name"] for part in table["partitiontable"]["partitions"]]
    assert table["partitiontable"]["label"] == "gpt"
    assert names == ["esp", "root"]
    offset = FIRST_MIB << 20
    listing = subprocess.run(["mdir", "-i", f"{target}@@{offset}", "::/EFI/BOOT"], capture_output=True, check=True)
    assert b"BOOTX64" in listing.stdout
    assert ESP_LABEL.encode() in listing.stdout
    partition = tmp_path / "root.ext4"
    skip = FIRST_MIB + ESP_MIB
    subprocess.run(
        ["dd", f"if={target}", f"of={partition}", "bs=1M", f"skip={skip}", "conv=sparse", "status=none"], check=True
    )
    subprocess.run(["e2fsck", "-f", "-n", partition], check=True, capture_output=True)
    command = ["debugfs", "-R", "stat /etc/secret", str(partition)]
    facts = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Mode:  0640" in facts
    assert "Group: 61101" in facts
    label = subprocess.run(["e2label", partition], capture_output=True, text=True, check=True).stdout.strip()
    assert label == ROOT_LABEL
    assert target.stat().st_blocks * 512 < target.stat().st_size / 4
    assert sha256_of(target)
