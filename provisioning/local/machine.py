"""Everything of Borough that runs on this machine: a hub and its regions, started, watched and stopped together."""

import fcntl
import json
import os
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioning.local.errors import AlreadyRunningError
from provisioning.local.hub import RunningHub, local_hub
from provisioning.local.layout import EXAMPLE_TENANTS, StateLayout, free_port
from provisioning.local.network import deploy, region_servers
from provisioning.local.node import DEFAULT_CAPACITY, DEFAULT_WORKERS, Node, NodeOptions, local_nodes
from provisioning.local.plan import DEFAULT_REGIONS, parse_regions
from provisioning.local.process import running_together
from provisioning.local.seeding import Seeding
from provisioning.nats.deployment import Deployment

# Below the nodes' and below the ports that the kernel gives to outgoing connections.
CARRIER_RTP_FIRST = 18_000
CARRIER_RTP_PORTS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions:
    """What to run. `regions` as `parse_regions` reads it; `tenants` is seeded into the hub at the first start.

    `hub` False: one node by itself, that reads `tenants` from disk.
    """

    layout: StateLayout
    regions: str = DEFAULT_REGIONS
    tenants: Path = EXAMPLE_TENANTS
    workers: int = DEFAULT_WORKERS
    capacity: int = DEFAULT_CAPACITY
    sip: bool = True
    hub: bool = True


@asynccontextmanager
async def local_machine(options: MachineOptions) -> AsyncIterator[Deployment | None]:
    """Run hub and regions inside the block; region.json describes them. Gives the network, None without a hub.

    Raises ServiceStartError, AsteriskImageError, AlreadyRunningError or RegionPlanError.
    """
    layout = options.layout
    plans = parse_regions(options.regions)
    async with AsyncExitStack() as stack:
        stack.enter_context(_sole_owner(layout))
        carrier_sip_port = free_port(socket.SOCK_DGRAM)
        deployment = deploy(plans, layout) if options.hub else None
        hub = await stack.enter_async_context(local_hub(deployment, layout)) if deployment else None
        seeding = Seeding(context=layout.admin_context, documents=layout.run / "seed")
        if hub is not None:
            await seeding.seed([plan.name for plan in plans], options.tenants)
        if deployment is not None:
            for region in deployment.topology.regions:
                servers = region_servers(deployment, region, layout)
                await stack.enter_async_context(running_together(servers))
        node_options = [
            NodeOptions(
                plan=node,
                machine=layout,
                carrier_sip_port=carrier_sip_port,
                tenants=options.tenants,
                deployment=deployment,
                workers=options.workers,
                capacity=options.capacity,
                sip=options.sip,
            )
            for plan in plans
            for node in plan.nodes
        ]
        nodes = await stack.enter_async_context(local_nodes(node_options))
        if hub is not None:
            await seeding.until_served()
        layout.region_file.write_text(
            json.dumps(_describe(options, hub, nodes, carrier_sip_port), indent=2), encoding="utf-8"
        )
        layout.region_file.chmod(0o600)
        stack.callback(layout.region_file.unlink, missing_ok=True)
        yield deployment


def _describe(
    options: MachineOptions, hub: RunningHub | None, nodes: Sequence[Node], carrier_sip_port: int
) -> dict[str, object]:
    return {
        "supervisor_pid": os.getpid(),
        "tenants": str(options.tenants),
        "hub": hub.describe() if hub else None,
        "nodes": [node.describe() for node in nodes],
        "carrier": {
            "sip_port": carrier_sip_port,
            "rtp_first": CARRIER_RTP_FIRST,
            "rtp_last": CARRIER_RTP_FIRST + CARRIER_RTP_PORTS - 1,
            "directory": str(options.layout.run / "carrier"),
        },
    }


@contextmanager
def _sole_owner(layout: StateLayout) -> Iterator[None]:
    """Hold the state folder's lock, so that two machines never share it."""
    layout.run.mkdir(parents=True, exist_ok=True)
    with (layout.run / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(f"a region already runs in {layout.root}") from None
        yield
