"""Every file under /etc/borough/rendered, from what the machine is and who belongs to its region. Pure: text out.

No secret is in any of them: keys, certificates and passwords are named as systemd credentials.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from provisioning.asterisk.render import render as asterisk_files
from provisioning.asterisk.settings import (
    AsteriskSettings,
    FrontDoor,
    NodeDialplan,
    PortRange,
    SipTransport,
    TrunkPeer,
)
from provisioning.identity.names import HUB_SITE, ServiceName, ServiceRole
from provisioning.identity.store import VALID, Entry
from provisioning.nats.render import Credentials, Files, KeyFiles, render_hub, render_node
from provisioning.nats.topology import Hub, Node, Region, Topology
from provisioning.node import machine
from provisioning.node.description import HubDescription, NodeDescription, Peer
from provisioning.node.places import (
    AsteriskPlace,
    Credential,
    EnrolmentPlaces,
    HubPlaces,
    ModelChoice,
    NodePlaces,
    Service,
    SiblingPlaces,
)
from provisioning.node.roster import Roster, region_of_peers, topology_of
from provisioning.node.settings import (
    hub_sections,
    inference_sections,
    replication_sections,
    served_siblings,
    sync_sections,
    worker_name,
    worker_sections,
)
from provisioning.toml_text import TomlSections, toml_text

NATS_LOG = machine.LOG / "nats" / "nats-server.log"
# The one secret file of Asterisk; the unit writes it beside the others from its credential.
ARI_FILE = "ari.conf"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderedFile:
    """A file by its path under `rendered`, and the service that reads it."""

    path: str
    text: str
    service: Service
    # Of the workers: which one.
    instance: int | None = None
    # Whether its service notices another text by itself.
    is_live: bool = False

    @property
    def group(self) -> str:
        """The group that may read it, named as the user of its service."""
        return Service.NATS if self.service is Service.ARBITER else self.service

    @property
    def unit(self) -> str:
        """The unit that has to learn of a change; empty where none has to."""
        if self.is_live:
            return ""
        return self.service if self.instance is None else f"{self.service}@{self.instance}"


def node_files(node: NodeDescription, roster: Roster) -> list[RenderedFile]:
    """All files of a node. Raises RosterError, TopologyError."""
    topology = topology_of(node, roster)
    region = topology.region(node.region)
    places = node_places(node, region)
    models = node.models
    inference = inference_sections(
        places.inference_socket,
        places.models,
        ModelChoice(asr=models.asr, tts=models.tts, llm=models.llm, embedding=models.embedding),
        machine.INFERENCE_METRICS_PORT,
    )
    return [
        *_node_servers(topology, region.node(node.name), roster),
        _toml("sync.toml", sync_sections(places, machine.AGENT_METRICS_PORT), Service.AGENT),
        _toml("replication.toml", replication_sections(places, machine.LITESTREAM_METRICS_PORT), Service.LITESTREAM),
        _toml("inference.toml", inference | served_siblings(places), Service.INFERENCE),
        RenderedFile(path=machine.SIBLINGS.name, text=roster.text, service=Service.INFERENCE, is_live=True),
        *(_worker(places, index) for index in range(1, node.workers + 1)),
        *(
            RenderedFile(path=f"asterisk/{name}", text=text, service=Service.ASTERISK)
            for name, text in asterisk_files(asterisk_settings(node, region)).items()
            if name != ARI_FILE
        ),
    ]


def hub_files(hub: HubDescription, entries: Sequence[Entry], now: datetime) -> list[RenderedFile]:
    """All files of a hub; `entries` is the index of the authority."""
    valid = [entry for entry in entries if entry.state in VALID and entry.expires_in_days(now) > 0]
    server = nats_hub(hub)
    topology = Topology(hub=server, regions=tuple(_regions(valid, hub)))
    credentials = _credentials(
        Service.NATS,
        lambda name: [name.uri(entry.generation) for entry in valid if entry.key == name.key],
        lambda name: [entry.pin for entry in valid if entry.key == name.key],
    )
    models = ModelChoice(embedding=hub.embedding, embedding_threads=hub.embedding_threads)
    inference = inference_sections(machine.INFERENCE_SOCKET, machine.MODELS, models, machine.INFERENCE_METRICS_PORT)
    return [
        RenderedFile(
            path="nats.conf", text=render_hub(topology, credentials, _nats_files(Service.NATS)), service=Service.NATS
        ),
        _toml("inference.toml", inference, Service.INFERENCE),
        _toml("hub.toml", hub_sections(_hub_places(hub, server)), Service.CONTROLPLANE),
        _toml("authority.toml", _authority_sections(), Service.AUTHORITY),
    ]


def nats_hub(hub: HubDescription) -> Hub:
    """The hub's server."""
    ports = hub.nats
    return Hub(
        node=hub.name,
        address=hub.address,
        client_port=ports.client,
        leaf_port=ports.leaf,
        monitor_port=ports.monitor,
    )


def node_places(node: NodeDescription, region: Region) -> NodePlaces:
    """Where the services of a node find each other."""
    own = region.node(node.name)
    siblings = [other for other in region.nodes if other != own]
    return NodePlaces(
        region=node.region,
        name=node.name,
        capacity=node.capacity,
        workers=node.workers,
        urls=[f"tls://{server.address}:{server.client_port}" for server in (own, *siblings)],
        replicas=region.replicas,
        server_log=NATS_LOG,
        credential=machine.credential,
        records=machine.VAR / "records",
        keys=machine.VAR / "keys",
        sync=machine.SYNC,
        slots=machine.SLOTS,
        cordon=machine.CORDON,
        litestream=machine.VAR / "litestream",
        prepared=machine.VAR / "prepared",
        vectors=machine.VAR / "vectors",
        models=machine.MODELS,
        vad=node.models.vad,
        inference_socket=machine.INFERENCE_SOCKET,
        asterisk=AsteriskPlace(
            url=f"http://127.0.0.1:{machine.ARI_PORT}",
            user=machine.ARI_USER,
            trunk=node.trunks[0].name if node.trunks else None,
        ),
        siblings=SiblingPlaces(
            host=node.address,
            port=machine.INFERENCE_PORT,
            inference_roster=machine.SIBLINGS,
            calls_roster=machine.ROSTER,
        ),
    )


def asterisk_settings(node: NodeDescription, region: Region) -> AsteriskSettings:
    """Asterisk behind the front doors of its region. Its password is not in here."""
    sip = node.sip
    return AsteriskSettings(
        name=node.name,
        directory=machine.VAR / "asterisk",
        dialplan=NodeDialplan(stasis_apps=tuple(worker_name(index) for index in range(1, node.workers + 1))),
        sip_host=node.address,
        sip_port=sip.asterisk_port,
        http_port=machine.ARI_PORT,
        rtp_ports=PortRange(first=sip.rtp_first, last=sip.rtp_last),
        front_door=FrontDoor(
            address=node.vip or node.address,
            port=sip.front_door_port,
            hosts=tuple(other.address for other in region.nodes),
        ),
        peers=tuple(
            TrunkPeer(
                name=trunk.name,
                host=trunk.host,
                port=trunk.port,
                transport=SipTransport(trunk.transport),
                srtp=trunk.srtp,
            )
            for trunk in node.trunks
        ),
        codecs=sip.codecs,
        external_address=sip.external_address,
        local_networks=sip.local_networks,
    )


def _node_servers(topology: Topology, node: Node, roster: Roster) -> list[RenderedFile]:
    region = topology.region(node.region)
    servers = [(node, "nats.conf", Service.NATS)]
    if region.arbiter is not None and region.nodes[0] == node:
        servers.append((region.arbiter, "nats-arbiter.conf", Service.ARBITER))
    return [
        RenderedFile(
            path=path,
            text=render_node(
                topology,
                server,
                _credentials(service, lambda name: roster.identity(name).uris, lambda name: roster.identity(name).pins),
                _nats_files(service),
            ),
            service=service,
        )
        for server, path, service in servers
    ]


def _worker(places: NodePlaces, index: int) -> RenderedFile:
    sections = worker_sections(places, index, machine.worker_web_port(index), machine.credential(Service.CALLS, index))
    return _toml(f"{worker_name(index)}.toml", sections, Service.CALLS, index)


def _regions(valid: Sequence[Entry], hub: HubDescription) -> list[Region]:
    """As the hub has to know them: whose links it lets in. Where its nodes are is none of its business."""
    nodes: dict[str, dict[str, None]] = {}
    for entry in valid:
        site, _, rest = entry.key.partition("/")
        if rest.count("/") == 1 and site != HUB_SITE and entry.role == ServiceRole.LEAF:
            nodes.setdefault(site, {})[rest.partition("/")[0]] = None
    return [
        region_of_peers(site, [Peer(name=name, address="") for name in names], hub.nats)
        for site, names in sorted(nodes.items())
    ]


def _credentials(
    service: Service, users: Callable[[ServiceName], Sequence[str]], pins: Callable[[ServiceName], Sequence[str]]
) -> Credentials:
    files = machine.credential(service)
    return Credentials(
        authority=files("authority.pem"),
        files=lambda name: KeyFiles(certificate=files(f"{name.role}.pem"), key=files(f"{name.role}.key")),
        users=users,
        pins=pins,
    )


def _nats_files(service: Service) -> Files:
    name = service.removeprefix("borough-")
    return Files(
        store=machine.VAR / name / "jetstream",
        log=machine.LOG / name / "nats-server.log",
        pid=Path("/run") / service / "nats-server.pid",
    )


def _hub_places(hub: HubDescription, server: Hub) -> HubPlaces:
    def credential(service: Service) -> Credential:
        return machine.credential(service)

    return HubPlaces(
        name=hub.name,
        nats_url=f"tls://{server.address}:{server.client_port}",
        nats_monitor=f"http://127.0.0.1:{server.monitor_port}",
        server_log=NATS_LOG,
        credential=credential,
        database=machine.VAR / "hub" / "hub.db",
        revoked_file=machine.IDENTITY_STORE / "revoked.json",
        litestream=machine.VAR / "litestream",
        inference_socket=machine.INFERENCE_SOCKET,
        admin_host=hub.admin_host,
        admin_port=hub.admin_port,
        metrics_port=machine.CONTROLPLANE_METRICS_PORT,
        enrolment=EnrolmentPlaces(
            authority_socket=machine.AUTHORITY_SOCKET,
            address=hub.address,
            host=hub.enrolment_host,
            port=hub.enrolment_port,
            renewal_port=hub.renewal_port,
            leaf_port=hub.nats.leaf,
            client_port=hub.nats.client,
        ),
    )


def _authority_sections() -> TomlSections:
    return {
        "authority": {"store": machine.IDENTITY_STORE, "socket": machine.AUTHORITY_SOCKET},
        "metrics": {"port": machine.AUTHORITY_METRICS_PORT},
    }


def _toml(path: str, sections: TomlSections, service: Service, instance: int | None = None) -> RenderedFile:
    return RenderedFile(path=path, text=toml_text(sections), service=service, instance=instance)
