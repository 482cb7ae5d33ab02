"""`borough node render`: what it writes, as the services themselves read it."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from contract.settings import parse_settings
from controlplane.settings import HubSettings
from edge.call.settings import CallsSettings
from edge.inference.region_roster import RegionRoster
from edge.inference.settings import InferenceSettings
from edge.replication.settings import ReplicationSettings
from edge.sync.settings import SyncSettings
from provisioning.identity.names import HUB_ROLES, HUB_SITE, NODE_ROLES, ServiceName, ServiceRole
from provisioning.identity.store import IdentityStore
from provisioning.node.cli import node
from provisioning.node.errors import RenderError, RosterError
from provisioning.node.identity_folder import IdentityFolder, Pair, Trust
from provisioning.node.inputs import Inputs
from provisioning.node.machine import CURRENT_BUNDLE, DESCRIPTION, IDENTITY, IDENTITY_STORE, RENDERED, SYNC, Machine
from tests.provisioning.node.conftest import ADDRESSES, HUB_TOML, REGION, Enrolled, issue_node, node_toml

Make = Callable[..., Enrolled]
NATS_SERVER = Path(sys.executable).with_name("nats-server")
SECRET_WORDS = ("PRIVATE KEY", "password =")


def _render(machine: Machine, *options: str) -> str:
    # As a developer; as root the groups of the services would be wanted.
    result = CliRunner().invoke(node, ["render", "--root", str(machine.root), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(autouse=True)
def _anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering as a user who may not give files away."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def _check_with_nats(machine: Machine, config: str, scratch: Path) -> None:
    """nats-server reads it, with keys where systemd will put them."""
    text = (machine.at(RENDERED) / config).read_text()
    credentials = scratch / "credentials"
    credentials.mkdir()
    folder = IdentityFolder(machine.at(IDENTITY))
    for role in folder.roles():
        files = folder.current(role)
        (credentials / f"{role}.pem").write_bytes(files.certificate.read_bytes())
        (credentials / f"{role}.key").write_bytes(files.key.read_bytes())
    (credentials / "authority.pem").write_bytes(folder.authority.read_bytes())
    for unit in ("borough-nats", "borough-nats-arbiter"):
        text = text.replace(f"/run/credentials/{unit}.service", str(credentials))
        text = text.replace(f"/run/{unit}", str(scratch))
    text = text.replace("/var/lib/borough", str(scratch)).replace("/var/log/borough", str(scratch))
    (scratch / "nats.conf").write_text(text)
    checked = subprocess.run(
        [NATS_SERVER, "-t", "-c", str(scratch / "nats.conf")], capture_output=True, timeout=30, check=False
    )
    assert checked.returncode == 0, checked.stderr.decode()


def test_services_of_a_node_take_their_settings(enrolled: Make, tmp_path: Path) -> None:
    """Each file is valid for the service that reads it, and credentials are where systemd puts them."""
    machine = enrolled(*ADDRESSES).machine(tmp_path / "root")
    _render(machine)
    rendered = machine.at(RENDERED)
    sync = parse_settings(rendered / "sync.toml", (rendered / "sync.toml").read_text(), SyncSettings)
    assert sync.nats.urls == ("tls://10.20.0.11:4222", "tls://10.20.0.12:4222", "tls://10.20.0.13:4222")
    assert sync.nats.agent is not None
    assert str(sync.nats.agent.key) == "/run/credentials/borough-agent.service/agent.key"
    assert sync.nats.mirror_replicas == 3
    replication = (rendered / "replication.toml").read_text()
    assert parse_settings(rendered, replication, ReplicationSettings).records.keys_directory is not None
    assert parse_settings(rendered, (rendered / "inference.toml").read_text(), InferenceSettings).llm is not None
    for index in (1, 2):
        path = rendered / f"calls-{index}.toml"
        calls = parse_settings(path, path.read_text(), CallsSettings)
        assert calls.web.port == 8080 + index
        assert calls.asterisk is not None
        assert calls.asterisk.trunk == "carrier"
        assert str(calls.records.subject_key_file) == f"/run/credentials/borough-calls@{index}.service/subjects"
        assert str(calls.records.master_key_file) == f"/run/credentials/borough-calls@{index}.service/master"
        assert calls.sessions is not None
        assert calls.sessions.urls == sync.nats.urls
        assert str(calls.sessions.key) == f"/run/credentials/borough-calls@{index}.service/calls.key"


def test_siblings_are_asked_and_served(enrolled: Make, tmp_path: Path) -> None:
    """What a node asks another with is what that one lets in: same port, names, and a roster that both can read."""
    region = enrolled(*ADDRESSES)
    asking, serving = (region.machine(tmp_path / name, name) for name in ("in-south-1", "in-south-2"))
    for machine in (asking, serving):
        _render(machine)
    path = asking.at(RENDERED) / "calls-2.toml"
    client = parse_settings(path, path.read_text(), CallsSettings).inference.siblings
    path = serving.at(RENDERED) / "inference.toml"
    door = parse_settings(path, path.read_text(), InferenceSettings).siblings
    assert client is not None
    assert door is not None
    assert (door.host, door.port, client.port) == ("10.20.0.12", 50_051, 50_051)
    assert (door.region, client.region) == (REGION, REGION)
    assert (door.node, client.node) == ("in-south-2", "in-south-1")
    given = "/run/credentials/borough-inference.service"
    assert [str(file) for file in (door.authority, door.certificate, door.key)] == [
        f"{given}/{name}" for name in ("authority.pem", "inference.pem", "inference.key")
    ]
    given = "/run/credentials/borough-calls@2.service"
    assert [str(file) for file in (client.authority, client.certificate, client.key)] == [
        f"{given}/{name}" for name in ("authority.pem", "calls.pem", "calls.key")
    ]
    assert client.roster == CURRENT_BUNDLE / "roster.json"
    members = RegionRoster(serving.at(door.roster), region=REGION, node=door.node).members()
    assert {sibling.name for sibling in members.siblings} == {"in-south-1", "in-south-3"}
    assert "borough://in-south/in-south-1/calls/1" in members.askers


def test_inference_of_a_hub_serves_no_sibling(tmp_path: Path) -> None:
    """Nobody else has what it serves."""
    machine = _hub(tmp_path)
    _render(machine)
    assert "siblings" not in (machine.at(RENDERED) / "inference.toml").read_text()
    assert not (machine.at(RENDERED) / "siblings.json").exists()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_nats_takes_the_configuration_of_a_node(enrolled: Make, tmp_path: Path, count: int) -> None:
    """For regions of every shape; only one of two has a second server on its first node."""
    region = enrolled(*list(ADDRESSES)[:count])
    for name in region.names:
        machine = region.machine(tmp_path / name, name)
        _render(machine)
        (tmp_path / "scratch" / name).mkdir(parents=True)
        _check_with_nats(machine, "nats.conf", tmp_path / "scratch" / name)
        has_arbiter = (machine.at(RENDERED) / "nats-arbiter.conf").exists()
        assert has_arbiter == (count == 2 and name == "in-south-1")
        if has_arbiter:
            (tmp_path / "arbiter").mkdir()
            _check_with_nats(machine, "nats-arbiter.conf", tmp_path / "arbiter")


def test_a_cluster_has_its_final_shape_before_all_have_joined(enrolled: Make, tmp_path: Path) -> None:
    """Routes to all that node.toml names; only who enrolled is let in."""
    region = enrolled("in-south-1")
    machine = region.machine(tmp_path / "root", toml=node_toml("in-south-1", tuple(ADDRESSES)))
    _render(machine)
    text = (machine.at(RENDERED) / "nats.conf").read_text()
    assert "tls://10.20.0.13:6222" in text
    assert "borough://in-south/in-south-1/agent/1" in text
    assert "in-south-2/agent" not in text


def test_rendered_files_hold_no_secret_and_are_closed_to_others(enrolled: Make, tmp_path: Path) -> None:
    """Keys and passwords are named, never written; ari.conf is the unit's to write."""
    machine = enrolled(*ADDRESSES).machine(tmp_path / "root")
    _render(machine)
    files = [path for path in machine.at(RENDERED).rglob("*") if path.is_file()]
    assert len(files) > 20
    assert not any(path.name == "ari.conf" for path in files)
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert not any(word in path.read_text() for word in SECRET_WORDS), path


def test_it_says_what_changed_and_check_changes_nothing(enrolled: Make, tmp_path: Path) -> None:
    """The second run changes nothing; a node that joined changes nats.conf, one that left its users."""
    region = enrolled(*ADDRESSES)
    machine = region.machine(tmp_path / "root")
    assert not _render(machine, "--check").endswith("changed: 0\n")
    assert not machine.at(RENDERED).exists()
    _render(machine)
    assert _render(machine) == "changed: 0\n"
    region.store.revoke("in-south/in-south-3")
    IdentityFolder(machine.at(IDENTITY)).save_roster(region.roster_json(), 8)
    changed = json.loads(_render(machine, "--json"))
    assert changed["changed"] == ["/etc/borough/rendered/nats.conf", "/etc/borough/rendered/siblings.json"]
    # Inference reads the second by itself.
    assert changed["units"] == ["borough-nats"]
    assert "in-south-3/agent" not in (machine.at(RENDERED) / "nats.conf").read_text()


def test_files_that_are_too_many_go(enrolled: Make, tmp_path: Path) -> None:
    """Fewer workers leave no settings behind."""
    machine = enrolled(*ADDRESSES).machine(tmp_path / "root")
    _render(machine)
    machine.at(DESCRIPTION).write_text(node_toml().replace("workers = 2", "workers = 1"))
    out = _render(machine)
    assert "gone     /etc/borough/rendered/calls-2.toml" in out
    assert not (machine.at(RENDERED) / "calls-2.toml").exists()


def test_the_roster_of_the_running_bundle_wins_once_it_is_as_new(enrolled: Make, tmp_path: Path) -> None:
    """A bundle from before the enrolment does not know this node."""
    region = enrolled(*ADDRESSES)
    machine = region.machine(tmp_path / "root")
    inputs = Inputs(machine)
    without = region.roster_json().replace("in-south-3", "in-south-9")
    for version, expected in ((6, "in-south-3"), (7, "in-south-9")):
        bundle = machine.at(SYNC) / "bundles" / str(version)
        bundle.mkdir(parents=True)
        (bundle / "roster.json").write_text(without)
        machine.at(CURRENT_BUNDLE).unlink(missing_ok=True)
        machine.at(CURRENT_BUNDLE).symlink_to(f"bundles/{version}")
        assert [member.name for member in inputs.roster(REGION).members][2] == expected


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"region": "in-south"', '"region": "eu-west"', "of region 'eu-west'"),
        ("borough://in-south/in-south-2/leaf/1", "borough://in-south/in-south-1/leaf/9", "in-south-2/leaf"),
        ("borough://in-south/in-south-1/agent/1", "> borough://in-south/in-south-1/agent/1", "in-south-1/agent"),
        ("in-south-1", "in-south-4", "no valid certificate of this node"),
        ("{", "", "cannot be read"),
    ],
)
def test_a_roster_that_cannot_be_is_refused(
    enrolled: Make, tmp_path: Path, before: str, after: str, message: str
) -> None:
    """It is written by a service with fewer rights than who renders from it."""
    region = enrolled(*ADDRESSES)
    machine = region.machine(tmp_path / "root")
    _render(machine)
    (machine.at(IDENTITY) / "roster.json").write_text(region.roster_json().replace(before, after))
    with pytest.raises(RosterError, match=message):
        _render(machine)


def test_services_of_a_hub_take_their_settings(tmp_path: Path) -> None:
    """From the authority's index: every region with its links, whatever its size."""
    machine = _hub(tmp_path)
    store = IdentityStore(machine.at(IDENTITY_STORE))
    for region, nodes in (("in-south", ("in-south-1", "in-south-2")), ("eu-west", ("eu-west-1",))):
        for name in nodes:
            issue_node(store, region, name, "10.20.0.1")
    _render(machine)
    rendered = machine.at(RENDERED)
    hub = parse_settings(rendered / "hub.toml", (rendered / "hub.toml").read_text(), HubSettings)
    assert str(hub.signing.key_file) == "/run/credentials/borough-controlplane.service/signing.key"
    text = (rendered / "nats.conf").read_text()
    assert "borough://in-south/in-south-2/leaf/1" in text
    assert "LINK_eu-west" in text
    (tmp_path / "scratch").mkdir()
    _check_with_nats(machine, "nats.conf", tmp_path / "scratch")


def _hub(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path / "root")
    store = IdentityStore(machine.at(IDENTITY_STORE))
    store.init(datetime.now(UTC))
    machine.at(DESCRIPTION).parent.mkdir(parents=True)
    machine.at(DESCRIPTION).write_text(HUB_TOML)
    _issue_hub(store, machine)
    return machine


def _issue_hub(store: IdentityStore, machine: Machine) -> None:
    pairs = []
    for role in HUB_ROLES:
        who = ServiceName(site=HUB_SITE, node="hub-1", role=role)
        entry = store.issue(who, datetime.now(UTC), addresses=("10.10.0.5",) if role is ServiceRole.SERVER else ())
        certificate, key = store.certificate_file(who).read_bytes(), store.key_file(who).read_bytes()
        pairs.append(Pair(role=role, generation=entry.generation, certificate=certificate, key=key))
    trust = Trust(authority=store.authority_file.read_bytes(), signing_public=store.signing_public_file.read_bytes())
    IdentityFolder(machine.at(IDENTITY)).install(pairs, trust)


def test_without_the_groups_of_services_nothing_is_given_away(
    enrolled: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root is told which one is missing."""
    monkeypatch.undo()
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    machine = enrolled(*ADDRESSES).machine(tmp_path / "root")
    with pytest.raises(RenderError, match="there is no group borough-nats"):
        _render(machine)


def test_roles_of_a_node_are_those_it_has_files_of(enrolled: Make, tmp_path: Path) -> None:
    """Nothing is left out."""
    machine = enrolled("in-south-1").machine(tmp_path / "root")
    assert set(IdentityFolder(machine.at(IDENTITY)).roles()) == set(NODE_ROLES)
