"""A hub's authority, and machines of a region as folders: description, identity, roster."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf import json_format

from contract import downlink_pb2 as pb
from provisioning.identity.names import NODE_ROLES, ServiceName, ServiceRole
from provisioning.identity.store import IdentityStore
from provisioning.node.identity_folder import IdentityFolder, Pair, Trust
from provisioning.node.machine import DESCRIPTION, IDENTITY, Machine

REGION = "in-south"
ADDRESSES = {"in-south-1": "10.20.0.11", "in-south-2": "10.20.0.12", "in-south-3": "10.20.0.13"}
HUB_ADDRESS = "10.10.0.5"

NODE_TOML = """\
kind = "node"
[machine]
name = "{name}"
address = "{address}"
[region]
name = "in-south"
vip = "10.20.0.10"
nodes = [{nodes}]
[hub]
address = "10.10.0.5"
[calls]
capacity = 28
workers = 2
[[trunks]]
name = "carrier"
host = "10.30.0.1"
"""
HUB_TOML = """\
kind = "hub"
[machine]
name = "hub-1"
address = "10.10.0.5"
"""


def node_toml(name: str = "in-south-1", names: tuple[str, ...] = tuple(ADDRESSES)) -> str:
    nodes = ", ".join(f'{{name = "{other}", address = "{ADDRESSES[other]}"}}' for other in names)
    return NODE_TOML.format(name=name, address=ADDRESSES[name], nodes=nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """A region whose certificates an authority has issued."""

    store: IdentityStore
    names: tuple[str, ...]

    def roster(self) -> pb.Roster:
        """As the hub would put it into a bundle."""
        now = datetime.now(UTC)
        roster = pb.Roster(
            region=REGION, hub=pb.RosterHub(node="hub-1", address=HUB_ADDRESS, leaf_port=7422, client_port=4222)
        )
        for name in self.names:
            node = roster.nodes.add(name=name, address=ADDRESSES[name], state=pb.NODE_STATE_ACTIVE)
            for role in NODE_ROLES:
                who = ServiceName(site=REGION, node=name, role=role)
                valid = self.store.valid(who, now)
                node.identities.add(
                    role=role, uris=[who.uri(entry.generation) for entry in valid], pins=[e.pin for e in valid]
                )
        return roster

    def roster_json(self) -> str:
        return json_format.MessageToJson(self.roster(), preserving_proto_field_name=True)

    def machine(self, root: Path, name: str = "in-south-1", toml: str | None = None) -> Machine:
        """A machine of the region, enrolled."""
        machine = Machine(root)
        description = machine.at(DESCRIPTION)
        description.parent.mkdir(parents=True)
        description.write_text(node_toml(name, self.names) if toml is None else toml)
        pairs = []
        for role in NODE_ROLES:
            who = ServiceName(site=REGION, node=name, role=role)
            pairs.append(
                Pair(
                    role=role,
                    generation=self.store.current(who).generation,
                    certificate=self.store.certificate_file(who).read_bytes(),
                    key=self.store.key_file(who).read_bytes(),
                )
            )
        trust = Trust(
            authority=self.store.authority_file.read_bytes(),
            signing_public=self.store.signing_public_file.read_bytes(),
            roster=self.roster_json(),
            roster_version=7,
        )
        IdentityFolder(machine.at(IDENTITY)).install(pairs, trust)
        return machine


def issue_node(store: IdentityStore, region: str, name: str, address: str) -> None:
    """Issue all that a node needs."""
    for role in NODE_ROLES:
        who = ServiceName(site=region, node=name, role=ServiceRole(role))
        store.issue(who, datetime.now(UTC), addresses=who.reached_at((address, "127.0.0.1", "localhost")))


@pytest.fixture
def enrolled(tmp_path: Path) -> Callable[..., Enrolled]:
    """Makes an authority and a region of the named nodes."""

    def make(*names: str) -> Enrolled:
        store = IdentityStore(tmp_path / "authority")
        store.init(datetime.now(UTC))
        for name in names:
            issue_node(store, REGION, name, ADDRESSES[name])
        return Enrolled(store=store, names=names)

    return make
