"""Runs the front door that the role renders, on a host of a test's network."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ansible.front_door.network import Host, until
from tests.ansible.front_door.roles import render
from tests.ansible.front_door.root import inside, running

METRICS = ("127.0.0.1", 9106)
START_WITHIN_S = 15.0
TEMPLATES = ("kamailio.cfg", "dispatcher.list", "address.list", "tls.cfg")


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontDoor:
    """A running kamailio."""

    host: Host
    root: Path
    directory: Path

    def counters(self) -> dict[str, float]:
        """Metrics without their common beginning: `dropped_total{reason="stranger"}` -> 3."""
        found = {}
        for line in self.host.get(METRICS, "/metrics").splitlines():
            match = re.fullmatch(r"borough_front_door_(\S+(?: \S+=\S+)*) ([0-9.e+]+)(?: \d+)?", line)
            if match is not None:
                found[match.group(1)] = float(match.group(2))
        return found

    def dropped(self, reason: str) -> float:
        return self.counters().get(f'dropped_total{{reason="{reason}"}}', 0.0)

    def active_nodes(self) -> float:
        return self.counters().get('nodes{state="active"}', 0.0)

    @property
    def log(self) -> Path:
        return self.directory / "kamailio.log"


def write_settings(
    directory: Path,
    *,
    address: str,
    nodes: Sequence[str],
    trunks: Sequence[Mapping[str, Any]],
    vip: str = "",
    **more: object,
) -> None:
    """Everything that the role puts into /etc/kamailio."""
    directory.mkdir(parents=True, exist_ok=True)
    variables = {
        "borough_region": "in-south",
        "borough_address": address,
        "front_door_nodes": list(nodes),
        "borough_trunks": list(trunks),
        "borough_vip": vip,
        "front_door_directory": "/srv",
        "front_door_vip_interface": "eth0",
        "_front_door_credentials": "/srv",
        "_front_door_authorities": "/srv/authorities.pem",
        "_front_door_has_tls": False,
        **more,
    }
    for name in TEMPLATES:
        (directory / name).write_text(render("front_door", f"{name}.j2", variables), encoding="utf-8")


def check_command() -> tuple[str, ...]:
    return ("kamailio", "-c", "-f", "/srv/kamailio.cfg")


@contextmanager
def front_door(host: Host, root: Path, directory: Path) -> Iterator[FrontDoor]:
    """kamailio with the settings in `directory`, ready."""
    door = FrontDoor(host=host, root=root, directory=directory)
    argv = inside(host, root, directory, "kamailio", "-f", "/srv/kamailio.cfg", "-DD", "-E", "-Y", "/run/kamailio")
    with running(argv, door.log) as process:

        def is_ready() -> bool:
            assert process.poll() is None, door.log.read_text(encoding="utf-8")[-3000:]
            try:
                return bool(door.counters())
            except OSError:
                return False

        until(is_ready, within_s=START_WITHIN_S, what="kamailio answers")
        yield door
