"""A node ends for good, and another machine takes its place later: the pages on both."""

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from bench.target import Trunk
from provisioning.machines.machine import Machine
from provisioning.machines.plays import ANSIBLE
from provisioning.machines.region import RegionRehearsal
from tests.region.calling import calls_going_on, until
from tests.region.evidence import (
    IDENTITY,
    copy_identity,
    fleet,
    is_in_rotation,
    turns_of,
    use_identity,
    version_of_store,
)
from tests.region.pages import Reader
from tests.region.use_identity import LET_IN

ERASED = ("/etc/borough", "/var/lib/borough", "/var/log/borough", "/var/cache/borough", "/opt/borough")
MEASURED = "/etc/borough/secrets/master"
# Blocks of the page: erasing and verifying the certificate; the others are told.
ERASING, TELLING = slice(0, 2), slice(2, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """A node that was decommissioned: what it had, and what was printed."""

    node: Machine
    identity: Path
    digest: str
    secrets: list[str]
    certificate: Path
    took_s: float
    lost_calls: list[str]


@pytest.fixture(scope="module")
def departure(
    region: RegionRehearsal, trunk: Trunk, nodes: list[Machine], tmp_path_factory: pytest.TempPathFactory
) -> Departure:
    """The third node: the page names it. The others take the calls."""
    node, kept = nodes[2], tmp_path_factory.mktemp("stolen")
    shutil.copytree(node.mounted / IDENTITY, kept / IDENTITY, symlinks=True)
    digest = node.run("sha256sum", MEASURED).split()[0]
    secrets = _secrets(region, node)
    began = time.monotonic()
    try:
        with calls_going_on(trunk) as calls:
            Reader(region=region).follow("decommission", ERASING)
            took_s = time.monotonic() - began
            region.write_inventory(version_of_store(region), left_out=[node.place.name])
            Reader(region=region).follow("decommission", TELLING)
    finally:
        (ANSIBLE / "admin.pub").unlink(missing_ok=True)
    return Departure(
        node=node,
        identity=kept,
        digest=digest,
        secrets=secrets,
        certificate=region.inventory / "certificates" / f"{node.place.name}.json",
        took_s=took_s,
        lost_calls=calls.lost,
    )


def _secrets(region: RegionRehearsal, node: Machine) -> list[str]:
    vault = yaml.safe_load((region.inventory / "group_vars" / "nodes" / "vault.yml").read_text(encoding="utf-8"))
    values = vault["borough_secrets"]
    keys = node.run("sh", "-c", "cat /etc/borough/identity/*/current/key.pem").splitlines()
    return [values["subjects"], values["ari"], *values["master"], *(line for line in keys if "-----" not in line)]


def test_no_call_is_lost_by_it(departure: Departure) -> None:
    """It is drained before it goes."""
    print(f"\nerased in {departure.took_s:.0f} s")  # noqa: T201 - the figure that is asked for
    assert departure.lost_calls == []


def test_its_erasure_is_certified(region: RegionRehearsal, departure: Departure, tmp_path: Path) -> None:
    """openssl verifies the signature; another text has none; what was destroyed is named by its sum."""
    admin = region.inventory / "admin" / "certificate.pem"
    public = tmp_path / "admin.pub"
    public.write_text(_openssl("x509", "-in", str(admin), "-noout", "-pubkey"), encoding="utf-8")
    check = ("dgst", "-sha256", "-verify", str(public), "-signature", f"{departure.certificate}.sig")
    assert "Verified OK" in _openssl(*check, str(departure.certificate))
    other = tmp_path / "other.json"
    other.write_text(departure.certificate.read_text(encoding="utf-8").replace("erased", "kept"), encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError):
        _openssl(*check, str(other))
    certificate = json.loads(departure.certificate.read_text(encoding="utf-8"))
    assert certificate["node"] == departure.node.place.name
    assert certificate["machine_id"] == departure.node.run("cat", "/etc/machine-id").strip()
    sums = {file["path"]: file["sha256"] for file in certificate["files"]}
    assert sums[MEASURED] == departure.digest
    assert any(path.startswith("/var/lib/borough/records/") for path in sums)
    assert any(path.startswith("/var/lib/borough/keys/") for path in sums)


def _openssl(*words: str) -> str:
    return subprocess.run(["openssl", *words], check=True, capture_output=True, text=True, timeout=30).stdout


def test_nothing_of_ours_is_left_on_it(departure: Departure) -> None:
    """No folder, unit or process; and on the disk below its file system no secret."""
    node = departure.node
    left = node.run(
        "sh", "-c", f"ls -d {' '.join(ERASED)} /run/borough/* /etc/systemd/system/borough* 2>/dev/null; true"
    )
    assert left.split() == []
    assert node.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "borough*").strip() == ""
    processes = node.run("sh", "-c", "ps -eo user:32,args | grep -E '^borough|/opt/borough' | grep -v grep; true")
    assert processes == ""
    patterns = [word for secret in departure.secrets for word in ("-e", secret)]
    disk = str(node.directory / "disk")
    found = subprocess.run(["grep", "-rlaF", *patterns, disk], check=False, capture_output=True, text=True, timeout=300)
    assert found.stdout == ""


def test_it_is_let_in_no_more(
    region: RegionRehearsal, departure: Departure, hub: Machine, nodes: list[Machine]
) -> None:
    """The hub does not know it; whoever kept its keys is refused there and by every server."""
    assert departure.node.place.name not in fleet(region, hub)
    folder = copy_identity(departure.identity, nodes[0], "left")
    answers = use_identity(region, folder, nodes[0], nodes[:2])
    assert [where for where, answer in answers.items() if answer == LET_IN] == [], answers
    nodes[0].run("rm", "-r", folder)


def test_the_others_take_all_calls(trunk: Trunk, departure: Departure, nodes: list[Machine]) -> None:
    """A region of two is whole: both are in rotation, every call is answered."""
    assert departure.node.pid is not None
    assert all(is_in_rotation(node) for node in nodes[:2])
    with calls_going_on(trunk) as calls:
        calls.until_more(4, within_s=120)
    assert calls.lost == []


def test_a_node_is_added(
    region: RegionRehearsal, trunk: Trunk, departure: Departure, hub: Machine, nodes: list[Machine]
) -> None:
    """A bare machine joins a region that serves: its siblings let it in, and calls reach it."""
    node = departure.node
    node.replace()
    region.write_inventory(version_of_store(region))
    began = time.monotonic()
    with calls_going_on(trunk) as calls:
        Reader(region=region).follow("add-a-node")
        took_s = time.monotonic() - began
        assert until(lambda: turns_of(node) != set(), within_s=120), "it gets no calls"
    print(f"added in {took_s:.0f} s")  # noqa: T201 - the figure that is asked for
    assert {member.place.name for member in nodes} == fleet(region, hub)
    assert all(is_in_rotation(member) for member in nodes)
    assert calls.lost == []
