"""Everything one Asterisk instance is configured by. Two profiles: a node, and a carrier that calls it in tests."""

import ipaddress
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from provisioning.asterisk.errors import AsteriskSettingsError

# A caller whose audio stopped this long ago is gone: phones send comfort noise or silence all the time.
DEFAULT_RTP_TIMEOUT_S = 30

# The endpoint of front doors themselves; no trunk may have its name.
FRONT_DOOR_NAME = "front-door"
# Written by the front door, and taken off whatever comes from outside.
TRUNK_HEADER = "X-Borough-Trunk"
# A name stands in a header and in section titles.
_TRUNK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")

# What the loaded modules translate to and from 16 kHz linear audio.
CODECS = frozenset({"ulaw", "alaw", "g722", "opus"})

# Numbers of the carrier that answer without any program attached.
BUSY_NUMBER = "5550117"
NO_ANSWER_NUMBER = "5550119"
UNALLOCATED_NUMBER = "5550101"
ECHO_NUMBER = "5550100"


class SipTransport(StrEnum):
    """What SIP travels in between us and a peer."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrunkPeer:
    """One SIP peer. Its name is the endpoint's: `PJSIP/<name>/sip:...`.

    It is recognised by its address; behind a front door by the header that the front door writes.
    """

    name: str
    host: str
    port: int = 5060
    transport: SipTransport = SipTransport.UDP
    # Demands SRTP (SDES): its keys stand in the SDP, which TLS must hide.
    srtp: bool = False
    # Further addresses or networks that the peer sends from (CIDR).
    match: tuple[str, ...] = ()
    # Seconds between OPTIONS; 0 asks never.
    qualify_interval_s: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontDoor:
    """Where SIP comes from and goes to when trunks do not talk to this Asterisk themselves (ansible/roles/front_door).

    `hosts` are the addresses that front doors of the region send from beside `address`, the VIP. TLS ends at the front
    door; SRTP ends here.
    """

    address: str
    port: int = 5060
    hosts: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """All of them, once each, in order."""
        return tuple(dict.fromkeys((self.address, *self.hosts)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsListener:
    """SIP over TLS without a front door, as carriers of the tests speak it. Paths as seen inside the image."""

    port: int
    certificate: Path
    key: Path
    authorities: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRange:
    """UDP ports for RTP, both ends included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AriAccess:
    """Who may use ARI and the media websocket; both listen on loopback only."""

    user: str = "borough"
    password: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDialplan:
    """Every called number is offered to the workers' Stasis apps in turn, unanswered."""

    stasis_apps: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierDialplan:
    """A carrier for tests and the bench: callers of the Stasis app `caller_app`, humans of `human_app`."""

    caller_app: str = "caller"
    human_app: str = "human"


@dataclass(frozen=True, slots=True, kw_only=True)
class AsteriskSettings:
    """One instance. `directory` is its own and holds its settings, logs, sockets and recordings."""

    name: str
    directory: Path
    dialplan: NodeDialplan | CarrierDialplan
    sip_port: int
    http_port: int
    rtp_ports: PortRange
    peers: tuple[TrunkPeer, ...]
    sip_host: str = "127.0.0.1"
    front_door: FrontDoor | None = None
    tls: TlsListener | None = None
    ari: AriAccess = field(default_factory=AriAccess)
    codecs: tuple[str, ...] = ("ulaw", "alaw")
    # The address that peers beyond `local_networks` (CIDR) see us at, where there is NAT.
    external_address: str | None = None
    local_networks: tuple[str, ...] = ()
    rtp_timeout_s: int = DEFAULT_RTP_TIMEOUT_S
    # Asterisk owns the 20 ms clock of every call, so it goes before inference on a busy machine.
    niceness: int = -10
    # Asterisk's user outside the image: a number no distribution assigns (systemd.io/UIDS-GIDS), since the image's own
    # user 101 is somebody else here.
    user_id: int = 61_101

    def __post_init__(self) -> None:
        _check(self)

    @property
    def ari_url(self) -> str:
        """Base of ARI, without a slash at the end."""
        return f"http://127.0.0.1:{self.http_port}/ari"

    @property
    def recordings_directory(self) -> Path:
        """Where recordings lie as seen from outside the image."""
        return self.directory / "recordings"

    @property
    def log_file(self) -> Path:
        """The full log as seen from outside the image."""
        return self.directory / "log" / "messages.log"


def _check(settings: AsteriskSettings) -> None:
    if not 1 <= settings.rtp_ports.first < settings.rtp_ports.last <= 65535:
        raise _refused(settings, "rtp_ports", "first < last, both in 1-65535")
    for name, port in (("sip_port", settings.sip_port), ("http_port", settings.http_port)):
        if not 1 <= port <= 65535:
            raise _refused(settings, name, "1-65535")
    if not settings.codecs or not CODECS.issuperset(settings.codecs):
        raise _refused(settings, "codecs", ", ".join(sorted(CODECS)))
    if isinstance(settings.dialplan, NodeDialplan) and not settings.dialplan.stasis_apps:
        raise _refused(settings, "dialplan.stasis_apps", "at least one app")
    _check_peers(settings)


def _check_peers(settings: AsteriskSettings) -> None:
    names = [peer.name for peer in settings.peers]
    if len(set(names)) != len(names):
        raise _refused(settings, "peers", "every name once")
    for peer in settings.peers:
        _check_peer(settings, peer)
    if settings.front_door is None:
        _check_addresses(settings)


def _check_peer(settings: AsteriskSettings, peer: TrunkPeer) -> None:
    if _TRUNK_NAME.fullmatch(peer.name) is None or peer.name == FRONT_DOOR_NAME:
        raise _refused(settings, "peers.name", f"letters, digits, - and _, not {peer.name!r}")
    if peer.srtp and peer.transport is not SipTransport.TLS:
        raise _refused(settings, "peers.srtp", f"with transport tls only, which {peer.name} has not")
    direct = {SipTransport.UDP} if settings.tls is None else {SipTransport.UDP, SipTransport.TLS}
    if settings.front_door is None and peer.transport not in direct:
        raise _refused(settings, "peers.transport", "udp; tcp behind a front door, tls there or with a TLS listener")


def _check_addresses(settings: AsteriskSettings) -> None:
    seen: set[str] = set()
    for peer in settings.peers:
        addresses = {peer.host, *peer.match}
        # Asterisk would hand calls of both to whichever it finds first.
        if addresses & seen:
            raise _refused(settings, "peers", f"every address once, {sorted(addresses & seen)} comes twice")
        seen |= addresses
        for address in peer.match:
            try:
                ipaddress.ip_network(address, strict=False)
            except ValueError as error:
                raise _refused(settings, "peers.match", f"an address or network, not {address!r}") from error


def _refused(settings: AsteriskSettings, key: str, allowed: str) -> AsteriskSettingsError:
    return AsteriskSettingsError(f"asterisk {settings.name}: {key} is refused", hint=f"allowed: {allowed}")
