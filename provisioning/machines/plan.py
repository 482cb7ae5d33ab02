"""Which machines a rehearsal has, and their addresses on its bridge. Pure.

10.77.0.1     this machine: the carrier, the build store, who provisions
10.77.0.10    hub-1
10.77.0.11 .. the nodes of the region
10.77.0.50 .. machines that are not in the region yet: spares, neighbours
10.77.0.100   the region's virtual address
"""

import ipaddress
from dataclasses import dataclass

from provisioning.machines.errors import MachineUnknownError

DEFAULT_REGION = "in-south"
DEFAULT_NODES = 3
MOST_NODES = 9
_HUB, _FIRST_NODE, _FIRST_SPARE, _VIRTUAL = 10, 11, 50, 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A machine: its host name and IPv4 address."""

    name: str
    address: str
    # What it is called on the machine that it is in, apart from those of other rehearsals.
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinesPlan:
    """A hub, the nodes of one region, and spares, on one bridge of this machine."""

    region: str = DEFAULT_REGION
    nodes: int = DEFAULT_NODES
    spares: int = 0
    network: str = "10.77.0.0/24"
    # The kernel takes 15 characters for "vb-<bridge>-<number>".
    bridge: str = "borough"

    @property
    def gateway(self) -> str:
        """This machine's address on the bridge."""
        return self.address(1)

    @property
    def virtual_address(self) -> str:
        """Where the region's trunk rings, whichever node holds it."""
        return self.address(_VIRTUAL)

    @property
    def prefix_length(self) -> int:
        return ipaddress.ip_network(self.network).prefixlen

    @property
    def hub(self) -> Place:
        return self._place("hub-1", _HUB)

    @property
    def region_nodes(self) -> tuple[Place, ...]:
        return tuple(self._place(f"{self.region}-{number + 1}", _FIRST_NODE + number) for number in range(self.nodes))

    @property
    def spare_places(self) -> tuple[Place, ...]:
        return tuple(self._place(f"spare-{number + 1}", _FIRST_SPARE + number) for number in range(self.spares))

    @property
    def places(self) -> tuple[Place, ...]:
        """Every machine, the hub first."""
        return (self.hub, *self.region_nodes, *self.spare_places)

    def place(self, name: str) -> Place:
        """Raises MachineUnknownError."""
        for place in self.places:
            if place.name == name:
                return place
        raise MachineUnknownError(f"there is no machine {name}; there are: {', '.join(p.name for p in self.places)}")

    def address(self, number: int) -> str:
        """The host of this number on the bridge."""
        return str(ipaddress.ip_network(self.network)[number])

    def _place(self, name: str, number: int) -> Place:
        return Place(name=name, address=self.address(number), label=f"{self.bridge}-{number}")
