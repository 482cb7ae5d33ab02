"""The firewall lets in exactly what docs/operations/firewall.md says: every port, every kind of neighbour."""

import re
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ansible.front_door.network import Host, switched, until
from tests.ansible.front_door.roles import render, role_file
from tests.ansible.front_door.root import inside

PAGE = Path(__file__).resolve().parents[3] / "docs" / "operations" / "firewall.md"
ALL_PORTS = range(1, 65_536)
# What services have, what the page has, the edges of its range, and one port in a hundred of the rest.
PORTS_OF_INTEREST = sorted(
    {
        *range(1, 1100),
        *range(4200, 4300),
        *range(5000, 5100),
        *range(6200, 6300),
        *range(7400, 7500),
        *range(8000, 8100),
        *range(9000, 9500),
        *range(19_990, 20_010),
        *range(29_990, 30_010),
        *range(50_040, 50_060),
    }
    | set(range(1, 65_536, 97))
)
RECEIVE_BUFFER_BYTES = 1 << 26
SO_RCVBUFFORCE = 33
SOURCE_PORT = 61_000
VRRP = 112
ADDRESSES = {
    "target": ("10.60.0.11", "fd60::11"),
    "sibling": ("10.60.0.12", "fd60::12"),
    "observer": ("10.60.0.13", "fd60::13"),
    "admin": ("10.60.0.20", "fd60::20"),
    "carrier": ("10.60.0.50", "fd60::50"),
    "media": ("10.60.0.70", "fd60::70"),
    "vip": ("10.60.0.100", "fd60::100"),
    "region": ("10.60.0.110", "fd60::110"),
    "stranger": ("10.60.0.66", "fd60::66"),
}
# Which lines of the page are about a neighbour.
KINDS = {
    "sibling": {"nodes"},
    "observer": {"nodes", "observer"},
    "admin": {"admins"},
    "carrier": {"carriers"},
    "media": {"carriers' media"},
    "vip": {"region's address"},
    "region": {"regions"},
    "stranger": set[str](),
}
Port = tuple[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wall:
    """A machine behind its firewall, and its neighbours."""

    hosts: dict[str, Host]
    root: Path
    directory: Path

    @property
    def target(self) -> Host:
        return self.hosts["target"]

    def nft(self, *words: str) -> str:
        argv = inside(self.target, self.root, self.directory, "nft", *words)
        prefix = len(self.target.command())
        return self.target.run(*argv[prefix:])

    def dropped(self, reason: str) -> int:
        match = re.search(r"packets (\d+)", self.nft("list", "counter", "inet", "borough", f"dropped_{reason}"))
        assert match is not None
        return int(match.group(1))


def documented(machine: str, kinds: set[str]) -> set[Port]:
    """What the page lets such neighbours reach."""
    found: set[Port] = set()
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 4 or cells[0] != machine or not kinds & {who.strip() for who in cells[2].split(",")}:
            continue
        for port in cells[1].split():
            found |= _ports(port)
    return found


def _ports(text: str) -> set[Port]:
    if text == "vrrp":
        return {("vrrp", 0)}
    ports, _, protocol = text.partition("/")
    first, _, last = ports.partition("-")
    return {(protocol, port) for port in range(int(first), int(last or first) + 1)}


@contextmanager
def wall(root: Path, directory: Path, *, is_hub: bool = False, family: int = 0, **more: Any) -> Iterator[Wall]:
    """The target has the role's rules; `family` picks the neighbours' IPv4 or IPv6 addresses."""

    def at(name: str) -> str:
        return ADDRESSES[name][family]

    variables = {
        "firewall_is_hub": is_hub,
        "firewall_is_node": not is_hub,
        "borough_admin_networks": [at("admin")],
        "firewall_nodes": [at("target"), at("sibling"), at("observer")],
        "firewall_observers": [at("observer")],
        "borough_vip": at("vip"),
        "borough_trunks": [
            {"name": "a", "host": at("carrier"), "networks": [at("carrier")], "media_networks": [at("media")]}
        ],
        "borough_regions": [{"name": "r", "networks": [at("region")]}],
        **more,
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "nftables.conf").write_text(render("firewall", "nftables.conf.j2", variables), encoding="utf-8")
    with switched(ADDRESSES) as hosts:
        made = Wall(hosts=hosts, root=root, directory=directory)
        made.nft("--check", "--file", "/srv/nftables.conf")
        made.nft("--file", "/srv/nftables.conf")
        yield made


@pytest.mark.region
@pytest.mark.parametrize("family", [0, 1], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("machine", ["node", "hub"])
def test_exactly_the_documented_ports_are_reached(root: Path, tmp_path: Path, machine: str, family: int) -> None:
    """TCP, UDP and VRRP from each kind of neighbour; every port at all from a stranger."""
    with wall(root, tmp_path, is_hub=machine == "hub", family=family) as at:
        for name, kinds in KINDS.items():
            # At a hub, a region's nodes come as nodes of some region.
            known = kinds | ({"regions"} if "nodes" in kinds else set())
            ports = ALL_PORTS if name == "stranger" else PORTS_OF_INTEREST
            reached = _reached(at.hosts[name], at.target, family, ports)
            assert reached == {port for port in documented(machine, known) if port[1] in {0, *ports}}, name


def test_strangers_are_counted_by_what_they_tried(root: Path, tmp_path: Path) -> None:
    """One packet each, and the counters reach Prometheus in its own format."""
    tried = {"ssh": ("tcp", 22), "sip": ("udp", 5060), "rtp": ("udp", 20_000), "nats": ("tcp", 4222)}
    tried |= {"asterisk": ("udp", 5080), "metrics": ("tcp", 9443), "hub": ("tcp", 7443), "other": ("tcp", 8088)}
    tried |= {"inference": ("tcp", 50_051)}
    with wall(root, tmp_path) as at:
        for protocol, port in tried.values():
            _send(at.hosts["stranger"], at.target, protocol, [port], 0)
        until(lambda: all(at.dropped(reason) == 1 for reason in tried), within_s=3.0, what="all are counted")
        (tmp_path / "counters").mkdir()
        (tmp_path / "firewall-counters").write_bytes(role_file("firewall", "firewall-counters").read_bytes())
        argv = inside(at.target, root, tmp_path, "sh", "/srv/firewall-counters", "/srv/counters")
        at.target.run(*argv[len(at.target.command()) :])
        text = (tmp_path / "counters" / "borough_firewall.prom").read_text(encoding="utf-8")
        assert 'borough_firewall_dropped_packets_total{reason="ssh"} 1\n' in text
        assert [path.name for path in (tmp_path / "counters").iterdir()] == ["borough_firewall.prom"]


def test_senders_that_cannot_be_where_they_come_from_are_dropped(root: Path, tmp_path: Path) -> None:
    """A carrier's address is of no use to somebody who is not on the way to it."""
    with wall(root, tmp_path) as at:
        at.target.run("ip", "route", "add", "203.0.113.0/24", "dev", "lo")
        stranger = at.hosts["stranger"]
        stranger.run("ip", "address", "add", "203.0.113.5/32", "dev", "eth0")
        with stranger.open_socket(socket.SOCK_DGRAM) as forged:
            forged.bind(("203.0.113.5", 5060))
            forged.sendto(b"x", (at.target.address, 5060))
        until(lambda: at.dropped("spoofed") == 1, within_s=3.0, what="it is counted")


def test_reload_keeps_connections_and_foreign_tables(root: Path, tmp_path: Path) -> None:
    """A changed inventory cuts nobody off and touches no rules of others."""
    with wall(root, tmp_path) as at, ExitStack() as stack:
        at.nft("add", "table", "inet", "somebody")
        listening = stack.enter_context(at.target.open_socket(socket.SOCK_STREAM))
        listening.bind((at.target.address, 22))
        listening.listen()
        client = stack.enter_context(at.hosts["admin"].open_socket(socket.SOCK_STREAM))
        client.settimeout(3.0)
        client.connect((at.target.address, 22))
        server = stack.enter_context(listening.accept()[0])
        at.nft("--file", "/srv/nftables.conf")
        client.sendall(b"still here")
        server.settimeout(3.0)
        assert server.recv(100) == b"still here"
        assert "somebody" in at.nft("list", "tables")


def test_operator_can_add_a_port(root: Path, tmp_path: Path) -> None:
    """firewall_more opens what it names, to whom it names."""
    more = [{"ports": [8443], "networks": ["10.60.0.66/32", "fd00::/8"], "comment": "desk"}]
    with wall(root, tmp_path, firewall_more=more) as at:
        assert _reached(at.hosts["stranger"], at.target, 0, range(8400, 8500)) == {("tcp", 8443)}


def _reached(source: Host, target: Host, family: int, ports: Iterable[int]) -> set[Port]:
    """Which packets get through: raw sockets see what comes out of the input chain, whoever listens or not."""
    kind = socket.AF_INET6 if family else socket.AF_INET
    protocols = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "vrrp": VRRP}
    found: set[Port] = set()
    with ExitStack() as stack:
        ears = {name: stack.enter_context(_raw(target, kind, number)) for name, number in protocols.items()}
        for name, ear in ears.items():
            _send(source, target, name, ports, family)
            found |= {(name, port) for port in _heard(ear, name, kind)}
    return found


def _raw(host: Host, family: socket.AddressFamily, protocol: int) -> socket.socket:
    opened = host.open_socket(socket.SOCK_RAW, family, protocol)
    opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    opened.settimeout(0.5)
    return opened


def _heard(ear: socket.socket, name: str, kind: socket.AddressFamily) -> Iterator[int]:
    try:
        while True:
            packet, _ = ear.recvfrom(256)
            # IPv4 raw sockets bring the header along, IPv6 ones do not.
            payload = packet[(packet[0] & 15) * 4 :] if kind == socket.AF_INET else packet
            if name == "vrrp":
                yield 0
            elif int.from_bytes(payload[:2], "big") == SOURCE_PORT:
                yield int.from_bytes(payload[2:4], "big")
    except TimeoutError:
        return


def _send(source: Host, target: Host, protocol: str, ports: Iterable[int], family: int) -> None:
    kind = socket.AF_INET6 if family else socket.AF_INET
    here, there = _own(source, family), _own(target, family)
    number = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "vrrp": VRRP}[protocol]
    with source.open_socket(socket.SOCK_RAW, kind, number) as out:
        out.bind((here, 0))
        if protocol == "vrrp":
            _set_hops(out, family)
            out.sendto(bytes(8), (there, 0))
            return
        out.connect((there, 0))
        pseudo = socket.inet_pton(kind, here) + socket.inet_pton(kind, there)
        for segment in _segments(pseudo, protocol, ports):
            out.send(segment)


def _own(host: Host, family: int) -> str:
    return next(own[family] for own in ADDRESSES.values() if own[0] == host.address)


def _set_hops(out: socket.socket, family: int) -> None:
    if family:
        out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
    else:
        out.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 255)


def _segments(pseudo: bytes, protocol: str, ports: Iterable[int]) -> Iterator[bytes]:
    """A SYN or an empty datagram to each port, with right checksums: a wrong one would be dropped for that alone."""
    if protocol == "tcp":
        head, number, at = (
            struct.pack("!HHIIBBHHH", SOURCE_PORT, 0, 1, 0, 5 << 4, 0x02, 1024, 0, 0),
            socket.IPPROTO_TCP,
            16,
        )
    else:
        head, number, at = struct.pack("!HHHH", SOURCE_PORT, 0, 8, 0), socket.IPPROTO_UDP, 6
    data = pseudo + struct.pack("!HH", number, len(head)) + head
    without_port = sum(struct.unpack(f"!{len(data) // 2}H", data))
    for port in ports:
        total = without_port + port
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        checksum = struct.pack("!H", (~total & 0xFFFF) or 0xFFFF)
        yield head[:2] + struct.pack("!H", port) + head[4:at] + checksum + head[at + 2 :]
