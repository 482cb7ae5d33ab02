"""What may stand in `/etc/borough/node.toml`. pydantic stays in here; others use provisioning/node/description.py."""

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from contract.names import REGION_RULE, is_region
from contract.settings import Section
from provisioning.asterisk.settings import CODECS
from provisioning.identity.names import is_host

MOST_NODES = 32
# The SIP endpoint of the front doors themselves.
FRONT_DOOR = "front-door"
_TRUNK = re.compile(r"[a-z][a-z0-9-]{0,31}")


def _name(value: str) -> str:
    if not is_region(value):
        raise ValueError(f"must be of {REGION_RULE}")
    return value


def _ip_address(value: str) -> str:
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        raise ValueError("must be an IP address, such as 10.20.0.11") from None
    if address.is_unspecified or address.is_multicast:
        raise ValueError("must be an address that other machines reach this one at")
    return value


def _host(value: str) -> str:
    if not is_host(value):
        raise ValueError("must be an IP address or a host name in lower case, without a port")
    return value


def _network(value: str) -> str:
    try:
        ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f"must be a network such as 10.20.0.0/24: {error}") from None
    return value


def _trunk_name(value: str) -> str:
    if _TRUNK.fullmatch(value) is None or value == FRONT_DOOR:
        raise ValueError(f"must be lower-case letters, digits and hyphens, a letter first, and not {FRONT_DOOR!r}")
    return value


def _codec(value: str) -> str:
    if value not in CODECS:
        raise ValueError(f"must be one of {', '.join(sorted(CODECS))}")
    return value


Name = Annotated[str, AfterValidator(_name)]
IpAddress = Annotated[str, AfterValidator(_ip_address)]
Host = Annotated[str, AfterValidator(_host)]
Network = Annotated[str, AfterValidator(_network)]
TrunkName = Annotated[str, AfterValidator(_trunk_name)]
Codec = Annotated[str, AfterValidator(_codec)]
Port = Annotated[int, Field(ge=1, le=65_535)]
ModelName = Annotated[str, Field(min_length=1)]


class MachineSection(Section):
    name: Name = Field(description="name of this machine: of the node, unique in its region, or of the hub")
    address: IpAddress = Field(description="IP address that siblings, hub and front doors reach it at")


class PeerSection(Section):
    name: Name = Field(description="name of one of the nodes, this one too")
    address: IpAddress = Field(description="its IP address")


class RegionSection(Section):
    name: Name = Field(description="name of the region")
    vip: IpAddress | None = Field(default=None, description="address that carriers send calls to; keepalived moves it")
    nodes: tuple[PeerSection, ...] = Field(
        min_length=1, max_length=MOST_NODES, description="all nodes that the region is to have, in order of joining"
    )


class HubSection(Section):
    name: Name = Field(default="hub-1", description="name of the hub's machine")
    address: Host = Field(description="where nodes reach the hub")
    leaf_port: Port = Field(default=7422, description="port of the hub's NATS server for links of nodes")
    enrolment_port: Port = Field(default=7444, description="port that nodes enrol at")
    renewal_port: Port = Field(default=7445, description="port that nodes renew their certificates at")


class NatsSection(Section):
    client_port: Port = Field(default=4222, description="port for clients")
    cluster_port: Port = Field(default=6222, description="port for siblings")
    leaf_port: Port = Field(default=7422, description="port for links of nodes; of a hub")
    monitor_port: Port = Field(default=8222, description="port of the monitoring page on loopback")


class CallsSection(Section):
    capacity: int = Field(ge=1, le=1000, description="calls at once on this node")
    workers: int = Field(default=2, ge=1, le=64, description="call workers")


class SipSection(Section):
    asterisk_port: Port = Field(default=5080, description="UDP port of Asterisk; only front doors reach it")
    front_door_port: Port = Field(default=5060, description="port of the front doors of this region")
    rtp_first: Port = Field(default=20_000, description="first UDP port for audio")
    rtp_last: Port = Field(default=29_999, description="last UDP port for audio")
    codecs: tuple[Codec, ...] = Field(default=("ulaw", "alaw"), min_length=1, description="codecs, preferred first")
    external_address: IpAddress | None = Field(
        default=None, description="address that carriers see, where there is NAT"
    )
    local_networks: tuple[Network, ...] = Field(default=(), description="networks that are not behind the NAT")


class TrunkSection(Section):
    name: TrunkName = Field(description="name of the trunk, also of its SIP endpoint; calls go out by the first one")
    host: Host = Field(description="where the carrier takes calls")
    port: Port = Field(default=5060, description="port there")
    transport: Literal["udp", "tcp", "tls"] = Field(default="udp", description="udp, tcp or tls")
    srtp: bool = Field(default=False, description="whether audio is encrypted; only with tls")


class ModelsSection(Section):
    asr: ModelName = Field(default="whisper-tiny.en", description="recogniser")
    tts: ModelName = Field(default="en_US-joe-medium", description="voice")
    llm: ModelName = Field(default="smollm2-135m-instruct", description="language model")
    embedding: ModelName = Field(default="minilm-l6-v2", description="sentence encoder")
    vad: ModelName = Field(default="silero-vad", description="voice activity")


class NodeFile(Section):
    kind: Literal["node"] = Field(description="node or hub")
    machine: MachineSection
    region: RegionSection
    hub: HubSection
    calls: CallsSection
    nats: NatsSection = NatsSection()
    sip: SipSection = SipSection()
    trunks: tuple[TrunkSection, ...] = Field(default=(), description="the carriers of this region")
    models: ModelsSection = ModelsSection()


class HubModelsSection(Section):
    embedding: ModelName = Field(default="minilm-l6-v2", description="sentence encoder, the same as on the nodes")
    embedding_threads: int = Field(default=2, ge=1, le=64, description="cores that it may use")


class AdminSection(Section):
    host: IpAddress | Literal["0.0.0.0", "::"] = Field(  # noqa: S104 - an operator's choice
        default="0.0.0.0",  # noqa: S104
        description="address that the admin API listens on",
    )
    port: Port = Field(default=7443, description="port of the admin API")


class EnrolmentSection(Section):
    host: IpAddress | Literal["0.0.0.0", "::"] = Field(  # noqa: S104 - an operator's choice
        default="0.0.0.0",  # noqa: S104
        description="address that nodes enrol at",
    )
    port: Port = Field(default=7444, description="port that nodes enrol at")
    renewal_port: Port = Field(default=7445, description="port that nodes renew their certificates at")


class HubFile(Section):
    kind: Literal["hub"] = Field(description="node or hub")
    machine: MachineSection
    nats: NatsSection = NatsSection()
    admin: AdminSection = AdminSection()
    enrolment: EnrolmentSection = EnrolmentSection()
    models: HubModelsSection = HubModelsSection()


class KindOfFile(Section, extra="ignore"):
    kind: Literal["node", "hub"] = Field(description="node or hub")
