"""What a machine is, from `/etc/borough/node.toml`. As dataclasses, checked as a whole.

    kind = "node"
    [machine]
    name = "in-south-1"
    address = "10.20.0.11"
    [region]
    name = "in-south"
    vip = "10.20.0.10"
    [[region.nodes]]        # all nodes that the region is to have, in the order in which they joined
    name = "in-south-1"
    address = "10.20.0.11"
    [hub]
    name = "hub-1"
    address = "10.10.0.5"

A region's NATS cluster has the shape that `region.nodes` gives it from the first day on: a server that began alone
would drop its streams when it became one of a cluster ("Detected orphaned stream, will cleanup", half a minute later).
"""

from dataclasses import dataclass
from pathlib import Path

from contract.settings import SettingsError, parse_settings
from provisioning.identity.names import HUB_SITE
from provisioning.node.errors import NodeDescriptionError
from provisioning.node.node_file import HubFile, KindOfFile, NatsSection, NodeFile

# Even ports only, two legs a call with two ports each, and as many rest after they were used.
RTP_PORTS_PER_CALL = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another machine, or this one as others see it."""

    name: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsPorts:
    """Ports of a nats-server; the monitor is always on loopback."""

    client: int = 4222
    cluster: int = 6222
    leaf: int = 7422
    monitor: int = 8222


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAccess:
    """How a node reaches its hub."""

    name: str
    address: str
    leaf_port: int
    enrolment_port: int
    renewal_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sip:
    """How calls come in: the front doors of the region send them to Asterisk."""

    asterisk_port: int
    front_door_port: int
    rtp_first: int
    rtp_last: int
    codecs: tuple[str, ...]
    # The address that carriers beyond `local_networks` see the node's audio at, where there is NAT.
    external_address: str | None
    local_networks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trunk:
    """A carrier, behind the front doors."""

    name: str
    host: str
    port: int
    transport: str
    srtp: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Models by the name of the registry."""

    asr: str
    tts: str
    llm: str
    embedding: str
    vad: str

    @property
    def all(self) -> tuple[str, ...]:
        return (self.asr, self.tts, self.llm, self.embedding, self.vad)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDescription:
    """A node of a region."""

    name: str
    address: str
    region: str
    vip: str | None
    nodes: tuple[Peer, ...]
    hub: HubAccess
    nats: NatsPorts
    capacity: int
    workers: int
    sip: Sip
    trunks: tuple[Trunk, ...]
    models: Models


@dataclass(frozen=True, slots=True, kw_only=True)
class HubDescription:
    """The hub."""

    name: str
    address: str
    nats: NatsPorts
    admin_host: str
    admin_port: int
    enrolment_host: str
    enrolment_port: int
    renewal_port: int
    embedding: str
    embedding_threads: int


def parse_description(path: Path, text: str) -> NodeDescription | HubDescription:
    """Read the text of a node.toml; `path` is what errors name. Raises NodeDescriptionError."""
    try:
        if parse_settings(path, text, KindOfFile).kind == "hub":
            return _hub(parse_settings(path, text, HubFile))
        node = _node(parse_settings(path, text, NodeFile))
    except SettingsError as error:
        raise NodeDescriptionError(str(error)) from error
    _check(path, node)
    return node


def read_description(path: Path) -> NodeDescription | HubDescription:
    """Read `node.toml`. Raises NodeDescriptionError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NodeDescriptionError(
            f"{path} does not exist: this machine is neither a node nor a hub",
            hint="Run the playbook region.yml or hub.yml for it.",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise NodeDescriptionError(f"{path}: {error}") from error
    return parse_description(path, text)


def _node(file: NodeFile) -> NodeDescription:
    sip, hub = file.sip, file.hub
    return NodeDescription(
        name=file.machine.name,
        address=file.machine.address,
        region=file.region.name,
        vip=file.region.vip,
        nodes=tuple(Peer(name=node.name, address=node.address) for node in file.region.nodes),
        hub=HubAccess(
            name=hub.name,
            address=hub.address,
            leaf_port=hub.leaf_port,
            enrolment_port=hub.enrolment_port,
            renewal_port=hub.renewal_port,
        ),
        nats=_ports(file.nats),
        capacity=file.calls.capacity,
        workers=file.calls.workers,
        sip=Sip(
            asterisk_port=sip.asterisk_port,
            front_door_port=sip.front_door_port,
            rtp_first=sip.rtp_first,
            rtp_last=sip.rtp_last,
            codecs=sip.codecs,
            external_address=sip.external_address,
            local_networks=sip.local_networks,
        ),
        trunks=tuple(
            Trunk(name=trunk.name, host=trunk.host, port=trunk.port, transport=trunk.transport, srtp=trunk.srtp)
            for trunk in file.trunks
        ),
        models=Models(
            asr=file.models.asr,
            tts=file.models.tts,
            llm=file.models.llm,
            embedding=file.models.embedding,
            vad=file.models.vad,
        ),
    )


def _hub(file: HubFile) -> HubDescription:
    return HubDescription(
        name=file.machine.name,
        address=file.machine.address,
        nats=_ports(file.nats),
        admin_host=file.admin.host,
        admin_port=file.admin.port,
        enrolment_host=file.enrolment.host,
        enrolment_port=file.enrolment.port,
        renewal_port=file.enrolment.renewal_port,
        embedding=file.models.embedding,
        embedding_threads=file.models.embedding_threads,
    )


def _ports(section: NatsSection) -> NatsPorts:
    return NatsPorts(
        client=section.client_port, cluster=section.cluster_port, leaf=section.leaf_port, monitor=section.monitor_port
    )


def _check(path: Path, node: NodeDescription) -> None:
    """What no single key can say."""
    if node.region == HUB_SITE:
        raise _refused(path, "region.name", node.region, f"any name but {HUB_SITE!r}, which is the hub's")
    _check_own(path, "region.nodes: name", [peer.name for peer in node.nodes])
    _check_own(path, "region.nodes, region.vip: address", [*(p.address for p in node.nodes), *filter(None, [node.vip])])
    own = {peer.name: peer.address for peer in node.nodes}
    if node.name not in own:
        raise _refused(path, "machine.name", node.name, f"one of region.nodes: {', '.join(own)}")
    if own[node.name] != node.address:
        raise _refused(
            path, "machine.address", node.address, f"{own[node.name]}, which region.nodes says of {node.name}"
        )
    _check_own(path, "trunks: name", [trunk.name for trunk in node.trunks])
    for trunk in node.trunks:
        if trunk.srtp and trunk.transport != "tls":
            allowed = "tls, since the keys of the audio travel in the signalling"
            raise _refused(path, f"trunks.{trunk.name}.transport", trunk.transport, allowed)
    sip, needed = node.sip, RTP_PORTS_PER_CALL * node.capacity
    if sip.rtp_last - sip.rtp_first + 1 < needed:
        allowed = f"at least {needed} ports for {node.capacity} calls, {RTP_PORTS_PER_CALL} a call"
        raise _refused(path, "sip.rtp_first to sip.rtp_last", f"{sip.rtp_first}-{sip.rtp_last}", allowed)
    if sip.asterisk_port == sip.front_door_port:
        raise _refused(path, "sip.asterisk_port", sip.asterisk_port, "another port than sip.front_door_port")


def _check_own(path: Path, key: str, values: list[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise _refused(path, key, value, "every value once")


def _refused(path: Path, key: str, value: object, allowed: str) -> NodeDescriptionError:
    return NodeDescriptionError(f"{path}: {key}: {value!r} is refused; allowed: {allowed}")
