"""An image is made by two commands, boots in an emulated machine, tests itself there, and enrols with a hub."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from provisioning.build_store.cleansing import identity_in
from provisioning.build_store.disk import ESP_MIB, FIRST_MIB, MIB
from provisioning.build_store.emulator import FIRMWARE, PROGRAMS
from provisioning.build_store.node_image import IMAGE
from provisioning.machines.bridge import ensure_bridge, remove_bridge
from provisioning.machines.errors import MachineCommandError
from provisioning.machines.machine import Machine
from provisioning.machines.plan import MachinesPlan
from tests.provisioning.node.enrolment.real_hub import RealHub, real_hub

BOROUGH = str(Path(sys.executable).with_name("borough"))
MISSING = [
    program
    for program in (*PROGRAMS, "mmdebstrap", "systemd-nspawn", "sfdisk", "mkfs.ext4", "zstd", "git", "openssl")
    if shutil.which(program) is None
]
pytestmark = [
    pytest.mark.region,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="images are made by root"),
    pytest.mark.skipif(bool(MISSING), reason=f"not on this machine: {', '.join(MISSING)}"),
    pytest.mark.skipif(not FIRMWARE.exists(), reason=f"there is no {FIRMWARE} (package ovmf)"),
]
KEPT = "BOROUGH_IMAGE"
# On busy cores.
NODE_WITHIN_S = 300.0
# What a machine that is no longer anybody's own needs none of.
GREPPED = ("etc", "home", "opt", "root", "srv", "var")


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeImage:
    """A folder with an image, and whose key signed it."""

    directory: Path
    public_key: Path

    @property
    def disk(self) -> Path:
        return self.directory / IMAGE


def _borough(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [BOROUGH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=3000, check=False)


def _openssl(*arguments: str | Path) -> str:
    return subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeImage]:
    """Made in one go, as docs/operations/node-image.md says; or what an earlier run left where BOROUGH_IMAGE says."""
    if KEPT in os.environ:
        kept = Path(os.environ[KEPT])
        yield MadeImage(directory=kept / "image", public_key=kept / "build.pub")
        return
    place = tmp_path_factory.mktemp("image")
    _openssl("genpkey", "-algorithm", "ed25519", "-out", place / "build.key")
    _openssl("pkey", "-in", place / "build.key", "-pubout", "-out", place / "build.pub")
    for command in (("build",), ("build", "image", "--store", place / "store")):
        out = place / ("image" if len(command) > 1 else "store")
        done = _borough(*command, "--out", out, "--sign-key", place / "build.key")
        assert done.returncode == 0, done.stderr
    yield MadeImage(directory=place / "image", public_key=place / "build.pub")
    shutil.rmtree(place)


def test_everybody_can_check_it_with_plain_tools(image: MadeImage) -> None:
    """sha256sum and openssl agree with `borough build verify`; the bill of materials names what is in it."""
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=image.directory, check=True, timeout=300)
    signed = image.directory / "manifest.json"
    told = _openssl(
        *("pkeyutl", "-verify", "-pubin", "-inkey", image.public_key, "-rawin", "-in", signed),
        *("-sigfile", f"{signed}.sig"),
    )
    assert "Verified Successfully" in told
    verified = _borough("build", "verify", image.directory, "--key", image.public_key, "--json")
    assert verified.returncode == 0, verified.stderr
    manifest = json.loads(signed.read_text())
    assert json.loads(verified.stdout)["commit"] == manifest["commit"]
    components = json.loads((image.directory / "sbom.cdx.json").read_text())["components"]
    urls = {component["purl"].partition("@")[0] for component in components}
    assert {"pkg:deb/debian/linux-image-cloud-amd64", "pkg:deb/debian/kamailio", "pkg:pypi/borough"} <= urls
    assert {model["name"] for model in manifest["models"]} <= {component["name"] for component in components}


@contextmanager
def _flipped(path: Path, offset: int) -> Iterator[None]:
    """One byte of a file is another one inside the block."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        for value in (byte ^ 1, byte):
            file.seek(offset)
            file.write(bytes([value]))
            file.flush()
            if value != byte:
                yield


def test_a_changed_image_is_refused(image: MadeImage) -> None:
    """One bit of the disk, or one letter of the manifest; and what is refused is not booted."""
    with _flipped(image.disk, image.disk.stat().st_size // 2):
        for command in ("verify", "try"):
            refused = _borough("build", command, image.directory)
            assert refused.returncode == 1
            assert "its sha256 differs" in refused.stderr
        summed = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=image.directory, check=False)
        assert summed.returncode == 1
    with _flipped(image.directory / "manifest.json", 100):
        refused = _borough("build", "verify", image.directory, "--key", image.public_key)
        assert refused.returncode == 1
        assert "was not made with" in refused.stderr
    assert _borough("build", "verify", image.directory, "--key", image.public_key).returncode == 0


@contextmanager
def _mounted(image: MadeImage, at: Path) -> Iterator[Path]:
    at.mkdir()
    options = f"ro,noload,loop,offset={(FIRST_MIB + ESP_MIB) * MIB}"
    subprocess.run(["mount", "-t", "ext4", "-o", options, image.disk, at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", at], check=True)


def test_no_identity_is_in_it(image: MadeImage, tmp_path: Path) -> None:
    """Neither by the check of the build, nor by a grep that knows nothing of it."""
    with _mounted(image, tmp_path / "root") as root:
        assert list(identity_in(root)) == []
        assert (root / "etc/machine-id").read_text() == ""
        found = subprocess.run(
            ["grep", "-rIlE", "-e", "^-----BEGIN [A-Z ]*PRIVATE KEY-----", *GREPPED],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        keys = [name for name in found.stdout.splitlines() if "/site-packages/" not in name]
        assert keys == []
        passwords = [line.split(":")[1] for line in (root / "etc/shadow").read_text().splitlines()]
        assert set(passwords) <= {"*", "!", "!*"}
        wanted = {path.name for path in root.glob("etc/systemd/system/*.wants/*")}
        assert not wanted & {"kamailio.service", "keepalived.service", "borough-roster.path", "borough-agent.service"}
        assert {"nftables.service", "ssh.service", "borough-enrol.path", "borough-first-boot.service"} <= wanted


def test_it_boots_and_passes_its_own_test(image: MadeImage) -> None:
    """To a login, closed but for SSH, and through all checks that need no hub."""
    tried = _borough("build", "try", image.directory, "--key", image.public_key, "--json")
    assert tried.returncode == 0, f"{tried.stdout}\n{tried.stderr}"
    found = json.loads(tried.stdout)
    assert found["passed"]
    names = {finding["name"] for finding in found["findings"]}
    assert {"closed", "packages", "own identity", "self-test: models", "self-test: inference"} <= names


@pytest.fixture
def machine(image: MadeImage, tmp_path: Path) -> Iterator[Machine]:
    """Off, with the image's own file system as its disk, on a cable of its own."""
    plan = MachinesPlan(nodes=0, spares=1, network="10.80.0.0/24", bridge="boroughen")
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    ensure_bridge(plan)
    with _mounted(image, tmp_path / "root") as root:
        made = Machine(place=plan.spare_places[0], plan=plan, directory=tmp_path / "machine", root=root, key=key)
        try:
            yield made
        finally:
            made.destroy()
            remove_bridge(plan)


def _node_toml(hub: RealHub, machine: Machine) -> str:
    own = f'name = "in-south-1"\naddress = "{machine.place.address}"\n'
    return (
        f'kind = "node"\n[machine]\n{own}[region]\nname = "in-south"\n[[region.nodes]]\n{own}'
        f'[hub]\naddress = "{machine.plan.gateway}"\nleaf_port = {hub.leaf_port}\n'
        f"enrolment_port = {hub.enrolment_port}\nrenewal_port = {hub.renewal_port}\n"
        f"[calls]\ncapacity = 1\nworkers = 1\n"
    )


def _give(disk: Path, credentials: Mapping[str, str]) -> None:
    """As somebody does who mounts the disk before its first boot."""
    store = disk / "etc/credstore"
    store.mkdir(mode=0o700, parents=True)
    for name, text in credentials.items():
        (store / name).write_text(text)
        (store / name).chmod(0o600)


async def _until(machine: Machine, command: str) -> str:
    """What a shell command there prints once it ends well."""
    deadline = time.monotonic() + NODE_WITHIN_S
    while True:
        try:
            return await asyncio.to_thread(machine.run, "sh", "-c", command)
        except MachineCommandError as error:
            if time.monotonic() > deadline:
                journal = machine.run("journalctl", "-b", "-n", "60", "-o", "cat", "-u", "borough-*")
                pytest.fail(f"{error}\n{journal}")
        await asyncio.sleep(2)


async def test_it_enrols_at_its_first_boot(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A description, the region's secrets and a token are all that it is given: it becomes a node that may take calls.

    Booted by systemd-nspawn: units run as they are, with their watchdogs.
    """
    with monkeypatch.context() as patch:
        # A hub that is rendered as a user who may not give files away.
        patch.setattr(os, "geteuid", lambda: 1000)
        async with real_hub(tmp_path / "hub", machine.plan.gateway) as hub:
            token = await hub.token("in-south-1")
            secrets = {f"borough.secret.{name}": "0" * 64 for name in ("ari", "subjects", "master")}
            description = _node_toml(hub, machine)
            _give(machine.directory / "disk", {"borough.node.toml": description, "borough.token": token, **secrets})
            await asyncio.to_thread(machine.start)
            await _joins(machine, hub, token)


async def _joins(machine: Machine, hub: RealHub, token: str) -> None:
    await _until(machine, "test ! -e /etc/borough/token")
    assert machine.run("cat", "/etc/machine-id") != ""
    # As borough-roster does on a hub.
    await hub.take_over()
    told = await _until(machine, "borough node self-test --json")
    outcomes = {check["name"]: check["outcome"] for check in json.loads(told)["checks"]}
    # No carrier, no sibling, no tenant.
    skipped = {name for name, outcome in outcomes.items() if outcome == "skipped"}
    assert skipped <= {"call", "clock", "prepared audio", "siblings"}
    assert outcomes["certificates"] == outcomes["bundle"] == outcomes["hub"] == outcomes["inference"] == "passed"
    await _until(machine, "systemctl is-active borough-selftest && test ! -e /run/borough/cordon")
    assert machine.run("systemctl", "list-units", "--failed", "--plain", "--no-legend", "borough-*") == ""
    # The neighbour reaches SSH, whatever listens besides.
    assert ":4222" in machine.run("ss", "-Hltn")
    for port in (4222, 5080, 8081, 8222):
        with pytest.raises(OSError, match="timed out"):
            socket.create_connection((machine.place.address, port), 1.0)
    secret = token.split(".")[2]
    found = await _until(machine, f"! grep -rIlF {secret} /etc/borough /var/log /var/lib/borough/sync /run/systemd")
    assert found == ""
