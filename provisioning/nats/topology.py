"""One typed description of the hub and its regions; every NATS configuration is rendered from it. Pure."""

from collections.abc import Callable
from dataclasses import dataclass

from contract.names import REGION_RULE, arbiter_name, is_region
from provisioning.identity.names import HUB_SITE, ServiceName, ServiceRole
from provisioning.nats.errors import TopologyError

MAX_REPLICAS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """The hub's one NATS server."""

    node: str = "hub-1"
    address: str = "127.0.0.1"
    client_port: int
    leaf_port: int
    # Always on loopback.
    monitor_port: int

    def service(self, role: ServiceRole) -> ServiceName:
        return ServiceName(site=HUB_SITE, node=self.node, role=role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The NATS server of one node of a region."""

    region: str
    name: str
    address: str = "127.0.0.1"
    client_port: int
    cluster_port: int
    monitor_port: int

    def service(self, role: ServiceRole) -> ServiceName:
        return ServiceName(site=self.region, node=self.name, role=role)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """Sibling nodes whose servers form one cluster. Raises TopologyError."""

    name: str
    nodes: tuple[Node, ...]
    # A second server beside the first node's, needed where there are two nodes: JetStream in a cluster takes no
    # decision with one server that stores (its group is at least two, AdjustBootClusterSize in raft.go), and with the
    # second node as the other one the loss of either would stop both.
    arbiter: Node | None = None

    def __post_init__(self) -> None:
        if not is_region(self.name) or self.name == HUB_SITE:
            raise TopologyError(f"{self.name!r} cannot name a region: {REGION_RULE}, and not {HUB_SITE!r}")
        if not self.nodes:
            raise TopologyError(f"region {self.name} has no node")
        names = [node.name for node in self.nodes]
        if len(set(names)) != len(names) or not all(is_region(name) for name in names):
            raise TopologyError(
                f"region {self.name}: nodes need names of their own, of {REGION_RULE}: {', '.join(names)}"
            )
        if any(node.region != self.name for node in self.nodes):
            raise TopologyError(f"region {self.name}: a node belongs to another region")
        if (self.arbiter is not None) != (len(self.nodes) == 2):
            raise TopologyError(f"region {self.name}: two nodes need an arbiter, other numbers have none")

    @property
    def replicas(self) -> int:
        """Of every stream in the region: a quorum needs three, below that there is one copy."""
        return MAX_REPLICAS if len(self.nodes) >= MAX_REPLICAS else 1

    @property
    def servers(self) -> tuple[Node, ...]:
        """Every server of the cluster."""
        return self.nodes if self.arbiter is None else (self.nodes[0], self.arbiter, *self.nodes[1:])

    @property
    def jetstream_servers(self) -> tuple[Node, ...]:
        """The servers that may store streams; where they are two, both are on the first node."""
        return self.servers[: self.replicas if self.arbiter is None else 2]

    def node(self, name: str) -> Node:
        """Raises TopologyError."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise TopologyError(f"region {self.name} has no node {name!r}")


def region_of(name: str, count: int, port: Callable[[], int]) -> Region:
    """A region of so many nodes on this machine, named `<region>-1` and on; `port` gives a free one each time."""

    def node(suffix: str) -> Node:
        return Node(
            region=name,
            name=f"{name}-{suffix}",
            client_port=port(),
            cluster_port=port(),
            monitor_port=port(),
        )

    nodes = tuple(node(str(number)) for number in range(1, count + 1))
    return Region(name=name, nodes=nodes, arbiter=node(arbiter_name("1")) if count == 2 else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """The hub and all regions. Raises TopologyError."""

    hub: Hub
    regions: tuple[Region, ...]

    def __post_init__(self) -> None:
        names = [region.name for region in self.regions]
        if len(set(names)) != len(names):
            raise TopologyError(f"regions need names of their own: {', '.join(names)}")

    def region(self, name: str) -> Region:
        """Raises TopologyError."""
        for region in self.regions:
            if region.name == name:
                return region
        raise TopologyError(f"there is no region {name!r}")
