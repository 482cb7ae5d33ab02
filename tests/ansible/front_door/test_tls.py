"""A carrier over TLS and SRTP: real Asterisks, kamailio in between, and nothing readable on the wire."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from provisioning.asterisk.settings import SipTransport, TlsListener, TrunkPeer
from tests.ansible.front_door.certificates import SipAuthority
from tests.ansible.front_door.door import FrontDoor
from tests.ansible.front_door.network import Host, until
from tests.ansible.front_door.pbx import (
    CALLER_DIALPLAN,
    ECHO_DIALPLAN,
    RTP_PORTS,
    Pbx,
    asterisk,
    carrier_settings,
)
from tests.ansible.front_door.region import (
    NODES,
    NUMBER,
    SECURE_CARRIER,
    STRANGER,
    TRUNKS,
    VIP,
    node,
    open_door,
    uri,
    wait_for_nodes,
)
from tests.ansible.front_door.sip import request

TLS_PORT = 5061
WITHIN_S = 5.0
LOUD = 0.3
ALL_PROTOCOLS = 0x0003  # ETH_P_ALL
RTP_HEADER_BYTES = 12
FRAME_BYTES = 160
# AES_CM_128_HMAC_SHA1_80 adds ten bytes to every packet.
SRTP_TAG_BYTES = 10


@contextmanager
def secure_door(host: Host, root: Path, directory: Path, authority: SipAuthority) -> Iterator[FrontDoor]:
    """The front door with a TLS listener."""
    pair = authority.issue("door", VIP, host.address)
    directory.mkdir(parents=True)
    for name, content in (
        ("sip.pem", pair.certificate),
        ("sip.key", pair.key),
        ("authorities.pem", authority.certificate),
    ):
        (directory / name).write_bytes(content)
    with open_door(host, root, directory, nodes=NODES[1:2], trunks=TRUNKS, _front_door_has_tls=True) as door:
        yield door


@contextmanager
def secure_carrier(
    host: Host, image: Path, directory: Path, authority: SipAuthority, *, srtp: bool = True
) -> Iterator[Pbx]:
    """A carrier that speaks TLS with the VIP."""
    pair = authority.issue("carrier", host.address)
    inside = Path("/srv/etc")
    settings = carrier_settings(
        directory,
        address=host.address,
        node=TrunkPeer(name="node", host=VIP, port=TLS_PORT, transport=SipTransport.TLS, srtp=srtp),
        tls=TlsListener(
            port=TLS_PORT,
            certificate=inside / "sip.pem",
            key=inside / "sip.key",
            authorities=inside / "authorities.pem",
        ),
    )
    files = {"sip.pem": pair.certificate, "sip.key": pair.key, "authorities.pem": authority.certificate}
    with asterisk(host, image, settings, CALLER_DIALPLAN, files) as pbx:
        yield pbx


def test_call_is_encrypted_and_both_sides_can_end_it(
    hosts: dict[str, Host], root: Path, image: Path, tmp_path: Path
) -> None:
    """SIP over TLS, audio as SRTP in both directions, the tone nowhere in the clear; calls out likewise."""
    authority = SipAuthority()
    with ExitStack() as stack:
        b = stack.enter_context(node(hosts["b"], image, tmp_path / "b", ECHO_DIALPLAN))
        caller = stack.enter_context(secure_carrier(hosts["secure"], image, tmp_path / "carrier", authority))
        door = stack.enter_context(secure_door(hosts["a"], root, tmp_path / "door", authority))
        wait_for_nodes(door, 1)
        caller.ring(NUMBER, uri=_secure_uri())
        until(lambda: b.calls() == 1, within_s=WITHIN_S, what="the node has the call")
        until(lambda: caller.loudness() > LOUD, within_s=WITHIN_S, what="the caller hears the echo")
        packets = _audio_packets(hosts["b"], 40)
        assert {len(packet) for packet in packets} == {RTP_HEADER_BYTES + FRAME_BYTES + SRTP_TAG_BYTES}
        # A tone repeats itself; what is encrypted does not.
        assert len({packet[RTP_HEADER_BYTES:] for packet in packets}) == len(packets)
        b.cli("channel request hangup all")
        until(lambda: caller.calls() == 0, within_s=WITHIN_S, what="the node's hang-up reaches the carrier")
        caller.ring(NUMBER, uri=_secure_uri())
        until(lambda: b.calls() == 1, within_s=WITHIN_S, what="the next call")
        caller.cli("channel request hangup all")
        until(lambda: b.calls() == 0, within_s=WITHIN_S, what="the carrier's hang-up reaches the node")
        b.cli("channel originate PJSIP/5559999@carrier-s application Echo")
        until(lambda: caller.calls() == b.calls() == 1, within_s=WITHIN_S, what="a desk behind the trunk is rung")
        assert door.counters()['calls_out_total{trunk="carrier-s"}'] == 1


def test_trunk_that_promised_srtp_is_refused_without(
    hosts: dict[str, Host], root: Path, image: Path, tmp_path: Path
) -> None:
    """No silent fall-back: plain RTP over a trunk with srtp gets 488."""
    authority = SipAuthority()
    with ExitStack() as stack:
        b = stack.enter_context(node(hosts["b"], image, tmp_path / "b", ECHO_DIALPLAN))
        settings = secure_carrier(hosts["secure"], image, tmp_path / "carrier", authority, srtp=False)
        caller = stack.enter_context(settings)
        door = stack.enter_context(secure_door(hosts["a"], root, tmp_path / "door", authority))
        wait_for_nodes(door, 1)
        caller.ring(NUMBER, uri=_secure_uri())
        until(
            lambda: door.counters().get('calls_total{trunk="carrier-s"}') == 1, within_s=WITHIN_S, what="it is offered"
        )
        until(lambda: caller.calls() == 0, within_s=WITHIN_S, what="it is refused")
        assert b.calls() == 0


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_only_new_tls_and_only_peers_get_a_connection(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """TLS 1.1 is refused; a stranger's connection is closed at its first word and counted."""
    authority = SipAuthority()
    with secure_door(hosts["a"], root, tmp_path / "door", authority) as door:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            _handshake(hosts["secure"], authority, ssl.TLSVersion.TLSv1_1)
        with _handshake(hosts["stranger"], authority, ssl.TLSVersion.TLSv1_3) as connection:
            connection.sendall(request("OPTIONS", f"sip:{VIP}", source=(STRANGER, TLS_PORT)))
            assert connection.recv(100) == b""
        until(lambda: door.dropped("stranger") == 1, within_s=WITHIN_S, what="the stranger is counted")


def _secure_uri() -> str:
    return f"{uri(TLS_PORT)}\\;transport=tls"


def _handshake(host: Host, authority: SipAuthority, version: ssl.TLSVersion) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.certificate.decode())
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = min(version, ssl.TLSVersion.TLSv1_2)
    context.maximum_version = version
    plain = host.open_socket(socket.SOCK_STREAM)
    plain.settimeout(WITHIN_S)
    plain.connect((VIP, TLS_PORT))
    return context.wrap_socket(plain, server_hostname=VIP)


def _audio_packets(host: Host, count: int) -> list[bytes]:
    """RTP packets that reach the host, as they are on the wire."""
    found: list[bytes] = []
    with host.open_socket(socket.SOCK_DGRAM, socket.AF_PACKET) as wire:
        wire.bind(("eth0", ALL_PROTOCOLS))
        wire.settimeout(WITHIN_S)
        while len(found) < count:
            packet = wire.recv(2048)
            if (
                packet[0] >> 4 != 4
                or packet[9] != socket.IPPROTO_UDP
                or packet[12:16] != socket.inet_aton(SECURE_CARRIER)
            ):
                continue
            udp = packet[(packet[0] & 15) * 4 :]
            if RTP_PORTS.first <= int.from_bytes(udp[2:4], "big") <= RTP_PORTS.last and udp[8 + 1] & 0x7F < 64:
                found.append(udp[8:])
    return found
