"""The region of these tests: addresses, trunks, and a front door or a node of it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from provisioning.asterisk.settings import SipTransport, TrunkPeer
from tests.ansible.front_door.door import FrontDoor, front_door, write_settings
from tests.ansible.front_door.network import Host, until
from tests.ansible.front_door.pbx import NODE_PORT, Pbx, asterisk, carrier_settings, node_settings

VIP = "10.60.0.100"
NODES = ("10.60.0.11", "10.60.0.12", "10.60.0.13")
CARRIER = "10.60.0.50"
SECURE_CARRIER = "10.60.0.60"
STRANGER = "10.60.0.66"
NUMBER = "5551000"
TRUNKS: list[dict[str, Any]] = [
    {"name": "carrier-a", "host": CARRIER, "networks": ["10.60.0.48/29"], "transport": "udp"},
    {
        "name": "carrier-s",
        "host": SECURE_CARRIER,
        "networks": [f"{SECURE_CARRIER}/32"],
        "transport": "tls",
        "srtp": True,
    },
]
PEERS = (
    TrunkPeer(name="carrier-a", host=CARRIER),
    TrunkPeer(name="carrier-s", host=SECURE_CARRIER, port=5061, transport=SipTransport.TLS, srtp=True),
)
DOOR = (VIP, 5060)


@contextmanager
def open_door(
    host: Host, root: Path, directory: Path, *, nodes: tuple[str, ...] = NODES, **more: object
) -> Iterator[FrontDoor]:
    """The front door on a node."""
    settings = {"address": host.address, "vip": VIP, "trunks": TRUNKS[:1]} | more
    write_settings(directory, nodes=nodes, **settings)  # type: ignore[arg-type]
    with front_door(host, root, directory) as door:
        yield door


@contextmanager
def node(host: Host, image: Path, directory: Path, dialplan: str) -> Iterator[Pbx]:
    """A node's Asterisk."""
    settings = node_settings(directory, address=host.address, nodes=NODES, vip=VIP, trunks=PEERS)
    with asterisk(host, image, settings, dialplan) as pbx:
        yield pbx


@contextmanager
def carrier(host: Host, image: Path, directory: Path, dialplan: str) -> Iterator[Pbx]:
    """A carrier that speaks UDP with the VIP."""
    settings = carrier_settings(directory, address=host.address, node=TrunkPeer(name="node", host=VIP))
    with asterisk(host, image, settings, dialplan) as pbx:
        yield pbx


def wait_for_nodes(door: FrontDoor, count: int) -> None:
    """Until the front door knows who lives; pings go out every second."""
    until(lambda: door.active_nodes() == count, within_s=8.0, what=f"{count} nodes are active")


def uri(port: int = DOOR[1]) -> str:
    return f"{VIP}:{port}"


def node_address(host: Host) -> tuple[str, int]:
    return host.address, NODE_PORT
