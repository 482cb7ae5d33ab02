"""Who belongs to a region and by which certificates each is known: from the roster that the hub signs into every
bundle, to what the NATS configuration is rendered from. Pure.

The shape of the cluster (servers, order, copies) is what `node.toml` says; the roster says who is let in. A node that
joined and stands in no `node.toml` yet comes last; one that was removed has no certificates any more.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf import json_format

from contract.downlink_pb2 import NodeState, RosterNode
from contract.downlink_pb2 import Roster as RosterMessage
from contract.names import arbiter_name, is_region
from provisioning.identity.names import ServiceName, ServiceRole
from provisioning.nats.topology import Hub, Node, Region, Topology
from provisioning.node.description import NatsPorts, NodeDescription, Peer
from provisioning.node.errors import RosterError

_ROLES = frozenset(map(str, ServiceRole))
_PIN = re.compile(r"[0-9a-f]{64}")
_URI = re.compile(r"borough://(?P<site>[^/]+)/(?P<node>[^/]+)/(?P<role>[a-z]+)/[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The valid certificates of one role: names of NATS users, and SHA-256 of public keys."""

    uris: tuple[str, ...]
    pins: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node of the region. `state` is active, cordoned, draining or removed."""

    name: str
    address: str
    state: str
    identities: Mapping[ServiceRole, Identity]


@dataclass(frozen=True, slots=True, kw_only=True)
class Roster:
    """All nodes that ever enrolled in a region, in the order in which they did. `text`: the same as JSON."""

    region: str
    members: tuple[Member, ...]
    text: str

    def identity(self, name: ServiceName) -> Identity:
        """Empty for who is not valid."""
        for member in self.members:
            if member.name == name.node and name.site == self.region:
                return member.identities.get(name.role, _NOBODY)
        return _NOBODY


_NOBODY = Identity(uris=(), pins=())


def parse_roster(text: str, region: str) -> Roster:
    """Read roster.json. Raises RosterError for one of another region, or with names that no hub writes."""
    try:
        message = json_format.Parse(text, RosterMessage(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise RosterError(f"the roster cannot be read: {error}") from error
    return roster_of(message, region)


def roster_of(message: RosterMessage, region: str) -> Roster:
    """A roster as it came in a message. Raises RosterError."""
    if message.region != region:
        raise RosterError(f"the roster is of region {message.region!r}, this node is in {region}")
    return Roster(
        region=region,
        members=tuple(_member(region, node) for node in message.nodes),
        text=str(json_format.MessageToJson(message, preserving_proto_field_name=True)) + "\n",
    )


def topology_of(description: NodeDescription, roster: Roster) -> Topology:
    """Hub and region as this node's server has to know them. Raises RosterError, TopologyError."""
    if description.name not in {member.name for member in roster.members if member.identities}:
        raise RosterError(
            f"the roster has no valid certificate of this node, {description.name}",
            hint="Was it removed, or the hub restored from a backup? `borough fleet status` says.",
        )
    hub, ports = description.hub, description.nats
    return Topology(
        hub=Hub(
            node=hub.name,
            address=hub.address,
            client_port=ports.client,
            leaf_port=hub.leaf_port,
            monitor_port=ports.monitor,
        ),
        regions=(region_of_peers(description.region, _peers(description, roster), ports),),
    )


def region_of_peers(name: str, peers: Sequence[Peer], ports: NatsPorts) -> Region:
    """A region of machines that all use the same ports; in one of two the first has the arbiter, one port higher."""
    nodes = tuple(_node(name, peer, ports) for peer in peers)
    arbiter = None
    if len(nodes) == 2:
        shifted = NatsPorts(
            client=ports.client + 1, cluster=ports.cluster + 1, leaf=ports.leaf + 1, monitor=ports.monitor + 1
        )
        arbiter = _node(name, Peer(name=arbiter_name(peers[0].name), address=peers[0].address), shifted)
    return Region(name=name, nodes=nodes, arbiter=arbiter)


def _node(region: str, peer: Peer, ports: NatsPorts) -> Node:
    return Node(
        region=region,
        name=peer.name,
        address=peer.address,
        client_port=ports.client,
        cluster_port=ports.cluster,
        monitor_port=ports.monitor,
    )


def _peers(description: NodeDescription, roster: Roster) -> list[Peer]:
    known = {peer.name for peer in description.nodes}
    joined = [
        Peer(name=member.name, address=member.address)
        for member in roster.members
        if member.name not in known and member.address and member.identities
    ]
    return [*description.nodes, *joined]


def _member(region: str, node: RosterNode) -> Member:
    if not is_region(node.name):
        raise RosterError(f"the roster names a node {node.name!r}")
    state = NodeState.Name(node.state).removeprefix("NODE_STATE_").lower()
    identities = {}
    for identity in node.identities:
        # A hub that is newer than this node may know roles that it does not.
        if identity.role in _ROLES:
            uris, pins = tuple(identity.uris), tuple(identity.pins)
            _check(ServiceName(site=region, node=node.name, role=ServiceRole(identity.role)), uris, pins)
            identities[ServiceRole(identity.role)] = Identity(uris=uris, pins=pins)
    return Member(name=node.name, address=node.address, state=state, identities=identities)


def _check(name: ServiceName, uris: Sequence[str], pins: Sequence[str]) -> None:
    for uri in uris:
        match = _URI.fullmatch(uri)
        if match is None or (match["site"], match["node"], match["role"]) != (name.site, name.node, str(name.role)):
            raise RosterError(f"the roster gives {name.key} the name {uri!r}")
    for pin in pins:
        if _PIN.fullmatch(pin) is None:
            raise RosterError(f"the roster gives {name.key} the pin {pin!r}, which is no SHA-256")
