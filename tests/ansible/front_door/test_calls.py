"""Calls through the front door, with real Asterisks: they reach nodes in turn, survive nodes and the front door."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.ansible.front_door.network import Host, pull_cable, until
from tests.ansible.front_door.pbx import BUSY_DIALPLAN, CALLER_DIALPLAN, ECHO_DIALPLAN
from tests.ansible.front_door.region import (
    CARRIER,
    DOOR,
    NODES,
    NUMBER,
    STRANGER,
    VIP,
    carrier,
    node,
    node_address,
    open_door,
    uri,
    wait_for_nodes,
)
from tests.ansible.front_door.sip import (
    accepted,
    answer,
    bound,
    cancelling,
    exchange,
    invite,
    received,
    replied,
    request,
)

ANSWERED_WITHIN_S = 4.0
LOUD = 0.3


def test_nodes_take_turns_and_audio_flows(hosts: dict[str, Host], root: Path, image: Path, tmp_path: Path) -> None:
    """Two calls go to two nodes, whose echo the caller hears; either side can hang up through the front door."""
    with ExitStack() as stack:
        a = stack.enter_context(node(hosts["a"], image, tmp_path / "a", ECHO_DIALPLAN))
        b = stack.enter_context(node(hosts["b"], image, tmp_path / "b", ECHO_DIALPLAN))
        caller = stack.enter_context(carrier(hosts["carrier"], image, tmp_path / "carrier", CALLER_DIALPLAN))
        door = stack.enter_context(open_door(hosts["a"], root, tmp_path / "door", nodes=NODES[:2]))
        wait_for_nodes(door, 2)
        for _ in range(2):
            caller.ring(NUMBER, uri=uri())
        until(lambda: a.calls() == b.calls() == 1, within_s=ANSWERED_WITHIN_S, what="one call on each node")
        until(lambda: caller.loudness() > LOUD, within_s=ANSWERED_WITHIN_S, what="the caller hears the echo")
        a.cli("channel request hangup all")
        until(lambda: caller.calls() == 1, within_s=ANSWERED_WITHIN_S, what="a node's hang-up reaches the carrier")
        caller.cli("channel request hangup all")
        until(lambda: b.calls() == 0, within_s=ANSWERED_WITHIN_S, what="the carrier's hang-up reaches the node")
        assert door.counters()['calls_total{trunk="carrier-a"}'] == 2


def test_node_calls_people_through_the_trunk_only(
    hosts: dict[str, Host], root: Path, image: Path, tmp_path: Path
) -> None:
    """A transfer goes out through the VIP; an address that is no trunk is refused."""
    with ExitStack() as stack:
        b = stack.enter_context(node(hosts["b"], image, tmp_path / "b", ECHO_DIALPLAN))
        desk = stack.enter_context(carrier(hosts["carrier"], image, tmp_path / "carrier", CALLER_DIALPLAN))
        door = stack.enter_context(open_door(hosts["a"], root, tmp_path / "door"))
        b.cli("channel originate PJSIP/5559999@carrier-a application Echo")
        until(lambda: desk.calls() == 1, within_s=ANSWERED_WITHIN_S, what="the desk is rung")
        desk.cli("channel request hangup all")
        until(lambda: b.calls() == 0, within_s=ANSWERED_WITHIN_S, what="the desk's hang-up reaches the node")
        b.cli(f"channel originate PJSIP/carrier-a/sip:5559999@{STRANGER} application Echo")
        until(lambda: door.counters().get('refused_total{reason="not_a_trunk"}') == 1, within_s=4.0, what="refused")


def test_silent_and_full_nodes_are_passed_over(hosts: dict[str, Host], root: Path, image: Path, tmp_path: Path) -> None:
    """A node without power, not yet noticed, and a full one cost the caller a second at most."""
    with ExitStack() as stack:
        stack.enter_context(node(hosts["a"], image, tmp_path / "a", BUSY_DIALPLAN))
        c = stack.enter_context(node(hosts["c"], image, tmp_path / "c", ECHO_DIALPLAN))
        caller = stack.enter_context(carrier(hosts["carrier"], image, tmp_path / "carrier", CALLER_DIALPLAN))
        b = stack.enter_context(node(hosts["b"], image, tmp_path / "b", ECHO_DIALPLAN))
        door = stack.enter_context(open_door(hosts["a"], root, tmp_path / "door"))
        wait_for_nodes(door, 3)
        pull_cable(hosts["b"])
        for _ in range(3):
            caller.ring(NUMBER, uri=uri())
        took_s = until(lambda: c.calls() == 3, within_s=ANSWERED_WITHIN_S, what="all calls are with the third node")
        assert took_s < 1.5
        assert caller.calls() == 3
        assert b.calls() == 0
        counters = door.counters()
        assert counters['failovers_total{reason="full"}'] >= 1
        assert counters['failovers_total{reason="silent"}'] >= 1
        wait_for_nodes(door, 2)


def test_a_node_that_cannot_even_be_sent_to_is_passed_over(
    hosts: dict[str, Host], root: Path, image: Path, tmp_path: Path
) -> None:
    """Nobody answers for its address any more, and pings have not noticed: the next node gets the call."""
    with ExitStack() as stack:
        stack.enter_context(node(hosts["b"], image, tmp_path / "b", ECHO_DIALPLAN))
        c = stack.enter_context(node(hosts["c"], image, tmp_path / "c", ECHO_DIALPLAN))
        caller = stack.enter_context(carrier(hosts["carrier"], image, tmp_path / "carrier", CALLER_DIALPLAN))
        door = stack.enter_context(
            open_door(hosts["a"], root, tmp_path / "door", nodes=NODES[1:], front_door_failed_pings=99)
        )
        wait_for_nodes(door, 2)
        hosts["a"].run("ip", "route", "add", "unreachable", f"{NODES[1]}/32")
        for _ in range(2):
            caller.ring(NUMBER, uri=uri())
        until(lambda: c.calls() == 2, within_s=ANSWERED_WITHIN_S, what="both calls are with the other node")
        assert caller.calls() == 2
        assert door.counters()['failovers_total{reason="unreachable"}'] >= 1


def test_carrier_hears_when_no_node_can_be_sent_to(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """503 with Retry-After, as where all are full."""
    with ExitStack() as stack:
        door = stack.enter_context(
            open_door(hosts["a"], root, tmp_path / "door", nodes=NODES[1:2], front_door_failed_pings=99)
        )
        phone = stack.enter_context(bound(hosts["carrier"], 5060))
        wait_for_nodes(door, 1)
        hosts["a"].run("ip", "route", "add", "unreachable", f"{NODES[1]}/32")
        refused = exchange(phone, invite(NUMBER, DOOR, source=(CARRIER, 5060)), DOOR)
        assert refused.startswith("SIP/2.0 503 No Room")
        assert "Retry-After: 5" in refused


def test_carrier_is_told_when_to_try_again(hosts: dict[str, Host], root: Path, image: Path, tmp_path: Path) -> None:
    """All nodes full, and no node at all: 503 with Retry-After."""
    with ExitStack() as stack:
        stack.enter_context(node(hosts["b"], image, tmp_path / "b", BUSY_DIALPLAN))
        door = stack.enter_context(open_door(hosts["a"], root, tmp_path / "door", nodes=NODES[1:2]))
        phone = stack.enter_context(bound(hosts["carrier"], 5060))
        refused = exchange(phone, invite(NUMBER, DOOR, source=(CARRIER, 5060)), DOOR)
        assert refused.startswith("SIP/2.0 503")
        assert "Retry-After: 5" in refused
        pull_cable(hosts["b"])
        wait_for_nodes(door, 0)
        refused = exchange(phone, invite(NUMBER, DOOR, source=(CARRIER, 5060)), DOOR)
        assert refused.startswith("SIP/2.0 503")
        assert "Retry-After: 5" in refused


def test_calls_survive_the_front_door(hosts: dict[str, Host], root: Path, image: Path, tmp_path: Path) -> None:
    """The front door dies and the VIP moves: audio goes on, and a sibling that never saw the calls ends them."""
    with ExitStack() as stack:
        b = stack.enter_context(node(hosts["b"], image, tmp_path / "b", ECHO_DIALPLAN))
        caller = stack.enter_context(carrier(hosts["carrier"], image, tmp_path / "carrier", CALLER_DIALPLAN))
        with open_door(hosts["a"], root, tmp_path / "door-a", nodes=NODES[1:2] + NODES[:1]) as door:
            wait_for_nodes(door, 1)
            for _ in range(2):
                caller.ring(NUMBER, uri=uri())
            until(lambda: b.calls() == 2, within_s=ANSWERED_WITHIN_S, what="both calls are answered")
        _move_vip(hosts, "a", "c")
        stack.enter_context(open_door(hosts["c"], root, tmp_path / "door-c"))
        assert caller.calls() == b.calls() == 2
        heard = caller.heard_bytes()
        until(lambda: caller.heard_bytes() > heard + 16_000, within_s=ANSWERED_WITHIN_S, what="audio goes on")
        assert caller.loudness() > LOUD
        first = caller.cli("core show channels concise").split("!", 1)[0]
        caller.cli(f"channel request hangup {first}")
        until(lambda: b.calls() == 1, within_s=ANSWERED_WITHIN_S, what="the carrier's hang-up reaches the node")
        b.cli("channel request hangup all")
        until(lambda: caller.calls() == 0, within_s=ANSWERED_WITHIN_S, what="the node's hang-up reaches the carrier")


def test_answer_finds_its_way_past_a_dead_front_door(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """The front door dies between offer and answer: its successor passes the answer on by its Via headers."""
    with ExitStack() as stack:
        phone = stack.enter_context(bound(hosts["carrier"], 5060))
        answering = stack.enter_context(bound(hosts["b"], 5080))
        with open_door(hosts["a"], root, tmp_path / "door-a", nodes=NODES[:2], front_door_failed_pings=99) as door:
            wait_for_nodes(door, 2)
            offers = []
            for _ in range(2):
                phone.sendto(invite(NUMBER, DOOR, source=(CARRIER, 5060)), DOOR)
                offers.append(received(answering, "INVITE"))
        _move_vip(hosts, "a", "c")
        stack.enter_context(open_door(hosts["c"], root, tmp_path / "door-c"))
        answering.sendto(accepted(offers[0], at=node_address(hosts["b"])), DOOR)
        assert answer(phone) == "SIP/2.0 200 OK"


def test_cancelled_call_is_cancelled_at_the_node(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """The CANCEL reaches the node that rings, its 487 the carrier, and no other node is asked."""
    with ExitStack() as stack:
        phone = stack.enter_context(bound(hosts["carrier"], 5060))
        ringing = stack.enter_context(bound(hosts["b"], 5080))
        door = stack.enter_context(
            open_door(hosts["a"], root, tmp_path / "door", nodes=NODES[1:2], front_door_failed_pings=99)
        )
        wait_for_nodes(door, 1)
        call = invite(NUMBER, DOOR, source=(CARRIER, 5060))
        phone.sendto(call, DOOR)
        offer = received(ringing, "INVITE")
        ringing.sendto(replied(offer, 180, "Ringing"), DOOR)
        while answer(phone, final=False) != "SIP/2.0 180 Ringing":
            continue
        phone.sendto(cancelling(call), DOOR)
        cancel = received(ringing, "CANCEL")
        assert _branch(cancel) == _branch(offer)
        ringing.sendto(replied(cancel, 200, "OK"), DOOR)
        ringing.sendto(replied(offer, 487, "Request Terminated"), DOOR)
        assert {answer(phone), answer(phone)} == {"SIP/2.0 200 canceling", "SIP/2.0 487 Request Terminated"}
        assert received(ringing, "ACK")
        assert not any(name.startswith("failovers") and value for name, value in door.counters().items())


def _branch(message: bytes) -> str:
    return message.decode().split("branch=", 1)[1].split("\r\n", 1)[0].split(";", 1)[0]


def test_everything_goes_over_ipv6_as_well(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """Offer, answer, and the hang-up of both sides."""
    carrier6, door6, node6 = ("fd60::50", 5060), ("fd60::100", 5060), ("fd60::12", 5080)
    for name, address in (("carrier", carrier6[0]), ("a", door6[0]), ("a", "fd60::11"), ("b", node6[0])):
        hosts[name].run("ip", "address", "add", f"{address}/64", "dev", "eth0", "nodad")
    settings: dict[str, Any] = {
        "address": "fd60::11",
        "vip": door6[0],
        "nodes": (node6[0],),
        "trunks": [{"name": "six", "host": carrier6[0], "networks": [f"{carrier6[0]}/128"]}],
    }
    with ExitStack() as stack:
        phone = stack.enter_context(bound(hosts["carrier"], 5060, address=carrier6[0]))
        answering = stack.enter_context(bound(hosts["b"], 5080, address=node6[0]))
        door = stack.enter_context(
            open_door(hosts["a"], root, tmp_path / "door", front_door_failed_pings=99, **settings)
        )
        wait_for_nodes(door, 1)
        phone.sendto(invite(NUMBER, door6, source=carrier6), door6)
        offer = received(answering, "INVITE")
        assert b"Record-Route: <sip:[fd60::100];lr" in offer
        answering.sendto(accepted(offer, at=node6), door6)
        assert answer(phone) == "SIP/2.0 200 OK"
        route = f"Route: <sip:[{door6[0]}];lr=on>"
        target = f"sip:[{node6[0]}]:{node6[1]}"
        phone.sendto(request("BYE", target, source=carrier6, to_tag="node", headers=(route,)), door6)
        assert received(answering, "BYE").startswith(f"BYE {target}".encode())
        target = f"sip:t@[{carrier6[0]}]:{carrier6[1]}"
        answering.sendto(request("BYE", target, source=node6, to_tag="f1", headers=(route,)), door6)
        assert received(phone, "BYE").startswith(f"BYE {target}".encode())


def _move_vip(hosts: dict[str, Host], source: str, target: str) -> None:
    """What keepalived does: the address goes, and the neighbours learn where to."""
    hosts[source].run("ip", "address", "delete", f"{VIP}/24", "dev", "eth0")
    hosts[target].run("ip", "address", "add", f"{VIP}/24", "dev", "eth0")
    for host in hosts.values():
        host.run("ip", "neighbour", "flush", "all")
