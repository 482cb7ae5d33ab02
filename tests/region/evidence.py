"""What machines of the region are asked before and after something is done to them."""

import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from provisioning.build_store.manifest import read_manifest
from provisioning.machines.machine import Machine
from provisioning.machines.region import RegionRehearsal
from tests.region.read_records import TURNS

RECORDS = "/var/lib/borough/records"
PYTHON = "/opt/borough/current/bin/python"
HUB_PORT, SERVER_PORT = 7445, 4222
IDENTITY = Path("etc/borough/identity")
FOLDER = Path(__file__).parent
# Tenant, call, turn; -1 stands for the call itself.
Turn = tuple[str, str, int]


def run_script(machine: Machine, name: str, *words: str, timeout_s: float = 120.0) -> str:
    """Run a script of this folder on a machine, with the release there."""
    (machine.mounted / "root" / name).write_bytes((FOLDER / name).read_bytes())
    return machine.run(PYTHON, "-I", f"/root/{name}", *words, timeout_s=timeout_s)


def turns_of(machine: Machine) -> set[Turn]:
    """All calls and turns in the records of a node that runs."""
    found: dict[str, dict[str, list[int]]] = json.loads(run_script(machine, "read_records.py", RECORDS))
    return {
        (tenant, call, seq) for tenant, calls in found.items() for call, seqs in calls.items() for seq in (-1, *seqs)
    }


def turns_on_disk(machine: Machine) -> set[Turn]:
    """The same of a machine that is off, from its disk."""
    found: set[Turn] = set()
    folder = machine.directory / "disk" / RECORDS.lstrip("/")
    with tempfile.TemporaryDirectory() as scratch:
        for path in folder.glob("*.sqlite3*"):
            if path.is_file():
                shutil.copyfile(path, Path(scratch) / path.name)
        for path in Path(scratch).glob("*.sqlite3"):
            with closing(sqlite3.connect(path)) as database:
                for call, seq in database.execute(TURNS):
                    found |= {(path.stem, call, -1), (path.stem, call, -1 if seq is None else seq)}
    return found


def releases(nodes: list[Machine]) -> set[str]:
    """What the nodes run."""
    return {node.run("readlink", "/opt/borough/current").strip().rpartition("/")[2] for node in nodes}


def version_of_store(region: RegionRehearsal) -> str:
    """The release that the inventory names."""
    return read_manifest(region.store).version


def is_in_rotation(node: Machine) -> bool:
    """By its own word."""
    return bool(json.loads(node.run("borough", "node", "status", "--json"))["cordoned"] == "")


def fleet(region: RegionRehearsal, hub: Machine) -> set[str]:
    """Nodes of the region that the hub knows."""
    context = "/etc/borough/admin/context.toml"
    reply = json.loads(hub.run("borough", "fleet", "status", "--json", "--context", context))
    return {
        node["node"]
        for part in reply.get("regions", [])
        if part["region"] == region.plan.region
        for node in part.get("nodes", [])
    }


def copy_identity(source: Path, machine: Machine, name: str) -> str:
    """Lay a node's identity, read below `source`, onto another machine, as a thief would; where it lies there."""
    target = machine.mounted / "root" / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source / IDENTITY, target, symlinks=True)
    return f"/root/{name}"


def use_identity(region: RegionRehearsal, folder: str, at: Machine, servers: list[Machine]) -> dict[str, str]:
    """What an identity that lies on a machine opens: the hub, and the region's servers; "let in", or why not."""
    addresses = [f"{server.place.address}:{SERVER_PORT}" for server in servers]
    hub = f"{region.plan.hub.address}:{HUB_PORT}"
    answers: dict[str, str] = json.loads(run_script(at, "use_identity.py", folder, hub, *addresses))
    return answers
