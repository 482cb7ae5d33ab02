"""The region's address moves to a front door that answers: within three seconds, and not back without need."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.ansible.front_door.network import Host, plug_cable, pull_cable, until
from tests.ansible.front_door.region import NODES, VIP, open_door
from tests.ansible.front_door.roles import render, role_file
from tests.ansible.front_door.root import inside, running

MOVES_WITHIN_S = 3.0
NATS_PORT = 6222
NAMES = ("a", "b", "c")
PROGRAMS = ("front-door-check", "front-door-in-region", "front-door-state")


@contextmanager
def keepalived(host: Host, root: Path, directory: Path) -> Iterator[None]:
    """keepalived with the role's settings."""
    variables = {
        "borough_vip": VIP,
        "borough_address": host.address,
        "front_door_nodes": list(NODES),
        "front_door_vip_interface": "eth0",
        "front_door_router_name": host.namespace,
        "front_door_textfiles": "/srv",
        "front_door_deciding_nodes": list(NODES),
        "_front_door_programs": "/srv",
    }
    for name in PROGRAMS:
        (directory / name).write_bytes(role_file("front_door", name).read_bytes())
        (directory / name).chmod(0o755)
    (directory / "keepalived.conf").write_text(render("front_door", "keepalived.conf.j2", variables), encoding="utf-8")
    argv = inside(
        host, root, directory, "keepalived", "--dont-fork", "--log-console", "--use-file=/srv/keepalived.conf"
    )
    with running([*argv, "--vrrp"], directory / "keepalived.log"):
        yield


def test_address_follows_the_front_door_that_answers(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """kamailio is killed, then a whole node is cut off; who comes back does not take the address back.

    Who hears nobody gives it up; whose siblings have lost only their kamailios keeps it.
    """
    hosts["a"].run("ip", "address", "delete", f"{VIP}/24", "dev", "eth0")
    doors: dict[str, ExitStack] = {}
    with ExitStack() as stack:
        for name in NAMES:
            doors[name] = stack.enter_context(ExitStack())
            doors[name].enter_context(open_door(hosts[name], root, tmp_path / name))
            stack.enter_context(keepalived(hosts[name], root, tmp_path / name))
        until(lambda: len(_holders(hosts)) == 1, within_s=10.0, what="one node has the address")
        [first] = _holders(hosts)
        doors[first].close()
        until(lambda: _holders(hosts) not in ([], [first]), within_s=MOVES_WITHIN_S, what="kamailio died")
        [second] = _holders(hosts)
        assert _metric(tmp_path / first, "is_active") == 0
        assert _metric(tmp_path / first, "is_faulty") == 1
        doors[first].enter_context(open_door(hosts[first], root, tmp_path / first))
        until(lambda: _metric(tmp_path / first, "is_faulty") == 0, within_s=5.0, what="the first answers again")
        assert _holders(hosts) == [second], "nobody takes the address from somebody who answers"
        pull_cable(hosts[second])
        others = {*NAMES} - {second}
        until(
            lambda: _holders(hosts) in [[name] for name in others],
            within_s=MOVES_WITHIN_S,
            what="the address is on the larger side",
        )
        [third] = _holders(hosts)
        plug_cable(hosts[second])
        until(lambda: _metric(tmp_path / second, "is_faulty") == 0, within_s=5.0, what="siblings are heard again")
        with hosts[second].open_socket(socket.SOCK_STREAM) as nats:
            nats.bind((hosts[second].address, NATS_PORT))
            nats.listen()
            for name in {*NAMES} - {third}:
                doors[name].close()
            time.sleep(MOVES_WITHIN_S)
            assert _holders(hosts) == [third], "it is the last front door, and not cut off"
        until(lambda: not _holders(hosts), within_s=MOVES_WITHIN_S, what="who hears nobody gives it up")


def test_check_tells_a_hung_kamailio_from_a_living_one(hosts: dict[str, Host], root: Path, tmp_path: Path) -> None:
    """The check is an answered OPTIONS, so a process that is there and does nothing does not pass."""
    host = hosts["a"]
    with open_door(host, root, tmp_path / "a"):
        assert _check(host) == "alive\n"
    assert _check(host) == "dead\n"
    with host.open_socket(socket.SOCK_DGRAM) as silent:
        silent.bind((host.address, 5060))
        assert _check(host) == "dead\n"


def _check(host: Host) -> str:
    program = role_file("front_door", "front-door-check")
    return host.run("bash", "-c", f"bash {program} {host.address} && echo alive || echo dead")


def _holders(hosts: dict[str, Host]) -> list[str]:
    return [name for name in NAMES if VIP in hosts[name].run("ip", "-4", "address", "show", "dev", "eth0")]


def _metric(directory: Path, name: str) -> float:
    path = directory / "borough_front_door.prom"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return next((float(line.split()[1]) for line in lines if line.startswith(f"borough_front_door_{name} ")), -1.0)
