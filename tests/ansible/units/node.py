"""A Debian 13 machine with what the units of a node need: a release, an image, an identity, secrets, settings.

The release is as small as the units under test allow: Debian's own Python with our pulse, and nats-server.
"""

import json
import os
import secrets
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from google.protobuf import json_format

from contract import downlink_pb2 as pb
from provisioning.asterisk.image import ensure_image
from provisioning.build_store.root import ensure_debian_root
from provisioning.identity.names import LISTENING_ROLES, NODE_ROLES, ServiceName
from provisioning.identity.store import IdentityStore
from provisioning.local.layout import StateLayout
from provisioning.machines.bridge import ensure_bridge
from provisioning.machines.machine import Machine
from provisioning.machines.plan import MachinesPlan
from provisioning.node import machine as places
from provisioning.node.folder import RenderedFolder
from provisioning.node.identity_folder import IdentityFolder, Pair, Trust
from provisioning.node.inputs import Inputs

REPOSITORY = Path(__file__).resolve().parents[3]
ANSIBLE = REPOSITORY / "ansible"
PLAN = MachinesPlan(region="units", nodes=1, network="10.219.3.0/24", bridge="unittest")
PLAY_TIMEOUT_S = 240.0
NODE_TOML = """\
kind = "node"
[machine]
name = "{name}"
address = "{address}"
[region]
name = "units"
nodes = [{{name = "{name}", address = "{address}"}}]
[hub]
address = "10.219.3.10"
[calls]
capacity = 28
[[trunks]]
name = "carrier"
host = "10.219.3.1"
"""
CONFIGURATION = """\
[defaults]
roles_path = {ansible}/roles
inject_facts_as_vars = False
host_key_checking = False
[connection]
pipelining = True
[ssh_connection]
ssh_args = -o ControlMaster=auto -o ControlPersist=60s -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitNode:
    """The machine, and a play that brings our units onto it."""

    machine: Machine
    folder: Path
    ari_password: str

    def start(self) -> None:
        """Boot it with everything but the units."""
        ensure_bridge(PLAN)
        self.machine.start()
        disk = self.machine.mounted
        _release(disk)
        _image(disk)
        _identity(self.folder / "authority", disk)
        kept = disk / "etc" / "borough" / "secrets"
        kept.mkdir(mode=0o700)
        for name, text in (
            ("ari", self.ari_password),
            ("subjects", secrets.token_urlsafe(32)),
            ("master", secrets.token_hex(32)),
        ):
            (kept / name).touch(mode=0o600)
            (kept / name).write_text(text, encoding="ascii")

    def play(self, *options: str) -> str:
        """Play the roles; returns what Ansible says."""
        configuration = self.folder / "ansible.cfg"
        configuration.write_text(CONFIGURATION.format(ansible=ANSIBLE), encoding="utf-8")
        inventory = self.folder / "inventory.json"
        inventory.write_text(json.dumps(self._inventory()), encoding="utf-8")
        environment = {"ANSIBLE_CONFIG": str(configuration), "ANSIBLE_HOME": str(self.folder / "ansible")}
        done = subprocess.run(
            [Path(sys.executable).with_name("ansible-playbook"), "-i", inventory, *options, ANSIBLE_PLAY],
            env={**os.environ, **environment},
            check=False,
            capture_output=True,
            text=True,
            timeout=PLAY_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def _inventory(self) -> dict[str, object]:
        place = self.machine.place
        values = {
            "ansible_host": place.address,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.machine.key),
            "ansible_python_interpreter": "/usr/bin/python3",
            "borough_address": place.address,
            "borough_workers": 2,
            "nats_watchdog_s": 6,
            "asterisk_silent_s": 5,
        }
        return {"all": {"children": {"hub": {"hosts": {}}, "nodes": {"hosts": {place.name: values}}}}}


ANSIBLE_PLAY = Path(__file__).with_name("node.yml")


def new_node(folder: Path) -> UnitNode:
    """A node whose machine does not run yet."""
    key = folder / "ssh"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    machine = Machine(
        place=PLAN.region_nodes[0],
        plan=PLAN,
        directory=folder / "machine",
        root=ensure_debian_root(state_directory=StateLayout().images),
        key=key,
    )
    return UnitNode(machine=machine, folder=folder, ari_password=secrets.token_hex(16))


def _release(disk: Path) -> None:
    release = disk / "opt" / "borough" / "releases" / "test"
    subprocess.run(
        ["chroot", disk, "python3", "-m", "venv", "--without-pip", f"/{release.relative_to(disk)}"], check=True
    )
    packages = next(release.glob("lib/python3.*/site-packages"))
    own = next(Path(sys.prefix).glob("lib/python3.*/site-packages"))
    shutil.copytree(own / "sdnotify", packages / "sdnotify")
    (packages / "provisioning").mkdir()
    for name in ("__init__.py", "backoff.py", "pulse.py", "silence.py"):
        shutil.copy(REPOSITORY / "provisioning" / name, packages / "provisioning")
    shutil.copy(Path(sys.executable).with_name("nats-server"), release / "bin")
    # So that `systemd-analyze verify` finds what units run that are not started here.
    (release / "bin" / "borough").symlink_to("python")
    (disk / "opt" / "borough" / "current").symlink_to("releases/test")


def _image(disk: Path) -> None:
    images = disk / "var" / "lib" / "borough" / "images"
    images.mkdir(parents=True)
    subprocess.run(["cp", "-a", ensure_image(), images / "asterisk-test"], check=True)
    (images / "asterisk").symlink_to("asterisk-test")


def _identity(authority: Path, disk: Path) -> None:
    """Certificates, roster and rendered settings, as enrolment and `borough node render` would leave them."""
    store, now, place = IdentityStore(authority), datetime.now(UTC), PLAN.region_nodes[0]
    store.init(now)
    roster = pb.Roster(region=PLAN.region, hub=pb.RosterHub(node="hub-1", address=PLAN.hub.address))
    member = roster.nodes.add(name=place.name, address=place.address, state=pb.NODE_STATE_ACTIVE)
    pairs = []
    for role in NODE_ROLES:
        name = ServiceName(site=PLAN.region, node=place.name, role=role)
        addresses = (place.address, "127.0.0.1", "localhost") if role in LISTENING_ROLES else ()
        entry = store.issue(name, now, addresses=addresses)
        member.identities.add(role=role, uris=[name.uri(entry.generation)], pins=[entry.pin])
        certificate, key = store.certificate_file(name).read_bytes(), store.key_file(name).read_bytes()
        pairs.append(Pair(role=role, generation=entry.generation, certificate=certificate, key=key))
    here = places.Machine(disk)
    trust = Trust(
        authority=store.authority_file.read_bytes(),
        signing_public=store.signing_public_file.read_bytes(),
        roster=json_format.MessageToJson(roster, preserving_proto_field_name=True),
    )
    IdentityFolder(here.at(places.IDENTITY)).install(pairs, trust)
    here.at(places.DESCRIPTION).write_text(NODE_TOML.format(name=place.name, address=place.address), encoding="utf-8")
    RenderedFolder(here).write(Inputs(here).files(now), lambda _: None)
    # `borough node render` gives them to groups, which are not there yet.
    subprocess.run(["chmod", "-R", "o+rX", here.at(places.RENDERED)], check=True)
