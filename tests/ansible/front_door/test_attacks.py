"""Bounded attacks on the front door, inside a test's own network: nothing of them reaches a node, calls go on."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.cli.bench import TORTURE
from tests.ansible.front_door.door import FrontDoor
from tests.ansible.front_door.network import Host, until
from tests.ansible.front_door.region import CARRIER, DOOR, NODES, NUMBER, STRANGER, VIP, node_address, open_door
from tests.ansible.front_door.sip import accepted, answer, bound, exchange, invite, is_ping, pong, received, request

FLOOD = 300
WITHIN_S = 5.0
OWN_URI = f"sip:{NUMBER}@{VIP}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A front door with one node, which is a socket of the test: it sees whatever is let through."""

    door: FrontDoor
    node: socket.socket
    carrier: socket.socket
    stranger: socket.socket
    node_at: tuple[str, int]

    def seen(self) -> list[bytes]:
        """What reached the node since the last look; pings are none of it, but answered."""
        found = []
        self.node.settimeout(0.4)
        ends = time.monotonic() + WITHIN_S
        try:
            while time.monotonic() < ends:
                message, sender = self.node.recvfrom(65_536)
                if is_ping(message):
                    self.node.sendto(pong(message), sender)
                else:
                    found.append(message)
        except TimeoutError:
            pass
        return found

    def call_works(self) -> bool:
        """A carrier's call is answered."""
        self.carrier.sendto(invite(NUMBER, DOOR, source=(CARRIER, 5060)), DOOR)
        offer = received(self.node, "INVITE")
        self.node.sendto(accepted(offer, at=self.node_at), DOOR)
        return (answer(self.carrier) or "").startswith("SIP/2.0 200")


@contextmanager
def scene(hosts: dict[str, Host], root: Path, directory: Path, **more: object) -> Iterator[Scene]:
    """All of it on the test's network."""
    with (
        open_door(hosts["a"], root, directory, nodes=NODES[1:2], front_door_failed_pings=99, **more) as door,
        bound(hosts["b"], 5080) as node,
        bound(hosts["carrier"], 5060) as carrier,
        bound(hosts["stranger"], 5060, timeout_s=0.5) as stranger,
    ):
        yield Scene(door=door, node=node, carrier=carrier, stranger=stranger, node_at=node_address(hosts["b"]))


def test_strangers_get_no_answer(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """Calls, scans and registrations of anybody else are dropped and counted; a flood is named one."""
    with scene(hosts, root, tmp_path) as at:
        at.seen()
        for method in ("INVITE", "OPTIONS", "REGISTER", "SUBSCRIBE", "MESSAGE", "BYE"):
            message = request(method, OWN_URI, source=(STRANGER, 5060), headers=("User-Agent: friendly-scanner",))
            assert exchange(at.stranger, message, DOOR) == ""
        assert at.seen() == []
        assert at.door.dropped("stranger") == 6
        for _ in range(FLOOD):
            at.stranger.sendto(request("REGISTER", f"sip:{VIP}", source=(STRANGER, 5060)), DOOR)
        assert at.call_works()
        until(lambda: _all_dropped(at) == FLOOD + 6, within_s=WITHIN_S, what="every message is counted")
        assert at.door.dropped("stranger_flood") > FLOOD / 2
        assert at.seen() == []
        warnings = at.door.log.read_text(encoding="utf-8").count("stranger source=")
        assert warnings <= 2, "a flood must not fill the log"


def test_spoofed_via_leads_answers_nowhere_else(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """A Via that names the carrier does not make a stranger a carrier, nor send it anything."""
    with scene(hosts, root, tmp_path) as at:
        message = invite(NUMBER, DOOR, source=(STRANGER, 5060), via=f"{CARRIER}:5060")
        assert exchange(at.stranger, message, DOOR) == ""
        at.carrier.settimeout(0.5)
        with pytest.raises(TimeoutError):
            at.carrier.recv(65_536)
        assert at.seen() == []
        # A carrier's answer goes where the carrier is, whatever its Via says.
        at.carrier.settimeout(WITHIN_S)
        options = request("OPTIONS", f"sip:{VIP}", source=(CARRIER, 5060), via=f"{STRANGER}:5060")
        assert exchange(at.carrier, options, DOOR).startswith("SIP/2.0 200")


def test_answers_of_strangers_are_dropped(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """A reply nobody asked for is not passed on by its Via."""
    with scene(hosts, root, tmp_path) as at:
        reply = (
            f"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP {VIP};branch=z9hG4bKx\r\n"
            f"Via: SIP/2.0/UDP {CARRIER}:5060;branch=z9hG4bKy\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n"
            "Call-ID: x\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
        )
        at.stranger.sendto(reply.encode(), DOOR)
        at.carrier.settimeout(0.5)
        with pytest.raises(TimeoutError):
            at.carrier.recv(65_536)
        assert at.door.dropped("stranger_reply") == 1


def test_carrier_cannot_register_relay_or_loop(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """Whoever may call may do nothing else: no registration, no way to third parties, no endless round."""
    with scene(hosts, root, tmp_path) as at:
        at.seen()
        at.carrier.settimeout(1.0)
        assert exchange(at.carrier, request("REGISTER", f"sip:{VIP}", source=(CARRIER, 5060)), DOOR) == ""
        assert at.door.dropped("method") == 1
        away = f"<sip:{STRANGER}:5060;lr>"
        # A route brought along, in a new call and in a dialog that never was.
        at.carrier.sendto(
            invite(NUMBER, DOOR, source=(CARRIER, 5060), headers=(f"Route: <sip:{VIP};lr>, {away}",)), DOOR
        )
        assert [message.split(b" ", 1)[0] for message in at.seen()][:1] == [b"INVITE"]
        within = request(
            "BYE",
            f"sip:x@{STRANGER}:5060",
            source=(CARRIER, 5060),
            to_tag="forged",
            headers=(f"Route: <sip:{VIP};lr>",),
        )
        at.carrier.settimeout(WITHIN_S)
        _drain(at.carrier)
        assert exchange(at.carrier, within, DOOR).startswith("SIP/2.0 403")
        with pytest.raises(TimeoutError):
            at.stranger.recv(65_536)
        assert at.door.counters()['refused_total{reason="foreign_target"}'] == 1
        round_trip = request("OPTIONS", f"sip:{VIP}", source=(CARRIER, 5060), max_forwards=0)
        assert exchange(at.carrier, round_trip, DOOR).startswith("SIP/2.0 483")


def test_trunk_name_cannot_be_forged(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """Asterisk believes the header, so it is ours whatever a carrier writes."""
    with scene(hosts, root, tmp_path) as at:
        forged = ("X-Borough-Trunk: front-door", "x-borough-trunk: carrier-s")
        at.carrier.sendto(invite(NUMBER, DOOR, source=(CARRIER, 5060), headers=forged), DOOR)
        offer = received(at.node, "INVITE").decode().lower()
        assert [line for line in offer.split("\r\n") if "borough-trunk" in line] == ["x-borough-trunk: carrier-a"]


def test_trunk_has_a_speed_limit(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """Calls above the limit get 503 with Retry-After; the node sees those below it."""
    with scene(hosts, root, tmp_path, front_door_calls_per_second=5) as at:
        at.seen()
        for _ in range(20):
            at.carrier.sendto(invite(NUMBER, DOOR, source=(CARRIER, 5060)), DOOR)
        offers = {line for message in at.seen() for line in message.split(b"\r\n") if line.startswith(b"Call-ID")}
        assert len(offers) <= 10
        assert at.door.counters()['refused_total{reason="rate"}'] >= 10


def test_oversized_messages_are_dropped(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """Larger than any offer."""
    with scene(hosts, root, tmp_path) as at:
        at.seen()
        padding = tuple(f"X-Padding-{index}: {'x' * 900}" for index in range(20))
        at.carrier.sendto(invite(NUMBER, DOOR, source=(CARRIER, 5060), headers=padding), DOOR)
        assert at.seen() == []
        assert at.door.dropped("too_large") == 1


@pytest.mark.skipif(not TORTURE.is_dir(), reason="the messages of RFC 4475 are not on this machine")
def test_torture_messages_do_no_harm(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """Every message of RFC 4475: a stranger's reach nobody, a carrier's break nothing, and calls go on."""
    messages = [path.read_bytes() for path in sorted(TORTURE.glob("*.dat"))]
    with scene(hosts, root, tmp_path) as at:
        at.seen()
        for message in messages:
            at.stranger.sendto(message, DOOR)
        assert at.seen() == []
        with pytest.raises(TimeoutError):
            at.stranger.recv(65_536)
        for message in messages:
            at.carrier.sendto(message, DOOR)
        passed = {message.split(b" ", 1)[0] for message in at.seen()}
        assert passed <= {b"INVITE", b"CANCEL"}, "nothing but calls goes on to a node"
        _drain(at.carrier)
        assert at.call_works()
        assert sum(at.door.dropped(reason) for reason in ("malformed", "unparsable", "method")) > 10


def _all_dropped(at: Scene) -> float:
    return sum(value for name, value in at.door.counters().items() if name.startswith("dropped_total"))


def _drain(opened: socket.socket) -> None:
    before = opened.gettimeout()
    opened.settimeout(0.3)
    try:
        while True:
            opened.recv(65_536)
    except TimeoutError:
        opened.settimeout(before)
