"""A hub and its regions for tests: real nats-servers, real certificates, the configuration that production gets."""

import asyncio
import contextlib
import json
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import aiohttp
import nats
import nats.errors
from nats.aio.client import Client

from contract.streams import MirrorSpec, hub_streams, mirrors
from contract.subjects import inbox
from provisioning.identity.names import ServiceName, ServiceRole
from provisioning.identity.store import IdentityStore
from provisioning.local.process import Service, ServiceSpec, running
from provisioning.nats.deployment import Deployment
from provisioning.nats.permissions import STRICT, Border
from provisioning.nats.topology import Hub, Node, Topology, region_of

NO_SUITABLE_PEERS = 10005
CLOSES_WITHIN_S = 5.0


@dataclass(slots=True)
class Network:
    """Running servers, and connections to them that end with the test."""

    deployment: Deployment
    services: dict[str, Service] = field(default_factory=dict)
    # What lies between a node and the hub, by the node's name, where the network was made with holes.
    holes: dict[str, "Hole"] = field(default_factory=dict)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def hub(self) -> Hub:
        return self.deployment.topology.hub

    def node(self, region: str, number: int = 1) -> Node:
        return self.deployment.topology.region(region).nodes[number - 1]

    def context(self, name: ServiceName) -> ssl.SSLContext:
        """TLS as the service does it."""
        store = self.deployment.identities
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(store.authority_file))
        context.load_cert_chain(store.certificate_file(name), store.key_file(name))
        return context

    async def connect(
        self, server: Hub | Node, role: ServiceRole, *, errors: list[str] | None = None, prefix: str | None = None
    ) -> Client:
        """A connection of a role to its own server; what the server complains of is appended to `errors`."""
        own = "_INBOX" if isinstance(server, Hub) else inbox(server.region, server.name)
        prefix = prefix or (own if role is ServiceRole.BORDER else "_INBOX")
        return await self.connect_as(server, server.service(role), prefix=prefix, errors=errors)

    async def connect_as(
        self, server: Hub | Node, name: ServiceName, *, prefix: str, errors: list[str] | None = None
    ) -> Client:
        """A connection with any identity to any server."""
        complaints = [] if errors is None else errors

        async def complain(error: Exception) -> None:
            complaints.append(str(error))

        client = await nats.connect(
            f"tls://127.0.0.1:{server.client_port}",
            tls=self.context(name),
            inbox_prefix=prefix,
            error_cb=complain,
            connect_timeout=5,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.1,
        )
        self.stack.push_async_callback(_close, client)
        return client

    async def linked(self, node: Node, *, within_s: float = 15.0) -> None:
        """Returns once the node's server has its link to the hub."""
        await eventually(lambda: self.has_leaf(node.monitor_port), within_s=within_s)

    @staticmethod
    async def has_leaf(port: int) -> bool:
        """Whether the server with this monitoring port has a link."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/leafz") as answer:
            return bool((await answer.json())["leafs"])

    async def make_streams(self, *, with_mirrors: bool = True) -> None:
        """What the hub and the sync agents do at start: all streams, consumers and mirrors."""
        topology = self.deployment.topology
        central = await self.connect(self.hub, ServiceRole.CONTROLPLANE)
        for spec in hub_streams(region.name for region in topology.regions):
            await ask(central, spec.create_subject, spec.request())
        for region in topology.regions if with_mirrors else ():
            border = await self.connect(region.nodes[0], ServiceRole.BORDER)
            await eventually(partial(_has_jetstream, border), within_s=30.0)
            for mirror in mirrors(region.name):
                await ask(central, mirror.consumer_create_subject, mirror.consumer_request())
                await eventually(partial(_is_created, border, mirror, region.replicas), within_s=30.0)


async def _close(client: Client) -> None:
    """A client that is refused again and again may take its time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CLOSES_WITHIN_S):
            await client.close()


async def ask(
    client: Client, subject: str, body: Mapping[str, object], *, timeout_s: float = 10.0
) -> dict[str, object]:
    """A JetStream API request; an error in the answer is an AssertionError."""
    answer: dict[str, object] = json.loads((await client.request(subject, json.dumps(body).encode(), timeout_s)).data)
    assert "error" not in answer, f"{subject}: {answer['error']}"
    return answer


async def _has_jetstream(client: Client) -> bool:
    """A cluster takes requests once it has elected its leader."""
    try:
        await client.request("$JS.API.INFO", b"", 1.0)
    except (nats.errors.TimeoutError, nats.errors.NoRespondersError):
        return False
    return True


async def _is_created(client: Client, mirror: MirrorSpec, replicas: int) -> bool:
    """A cluster of three refuses three replicas until all have met."""
    answer = await client.request(mirror.create_subject, json.dumps(mirror.request(replicas)).encode(), 5.0)
    error = json.loads(answer.data).get("error")
    assert error is None or error["err_code"] == NO_SUITABLE_PEERS, error
    return error is None


async def eventually(is_so: Callable[[], Awaitable[bool]], *, within_s: float = 10.0) -> None:
    """Polls until it is so. Raises TimeoutError.

    Looks at the clock itself: asyncio.wait_for, in nats-py's requests, swallows a cancellation that comes together
    with its result (Python 3.11), and a deadline by cancellation would be lost with it.
    """
    deadline = time.monotonic() + within_s
    while not await is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"was not so within {within_s} s")
        await asyncio.sleep(0.02)


def topology(regions: Mapping[str, int]) -> Topology:
    """Regions with so many nodes each, on free ports of the loopback."""
    ports = iter(free_ports(3 + 3 * sum(count + 1 for count in regions.values())))
    hub = Hub(client_port=next(ports), leaf_port=next(ports), monitor_port=next(ports))
    return Topology(
        hub=hub, regions=tuple(region_of(name, count, lambda: next(ports)) for name, count in regions.items())
    )


@asynccontextmanager
async def nats_network(
    root: Path, regions: Mapping[str, int], border: Border = STRICT, *, hole: bool = False
) -> AsyncIterator[Network]:
    """Run the hub and all nodes; every link is up when the block begins. With `hole`, links can be made silent."""
    deployment = Deployment(
        topology=topology(regions), identities=IdentityStore(root / "identity"), root=root, border=border
    )
    deployment.ensure_identities(datetime.now(UTC))
    deployment.write(datetime.now(UTC))
    network = Network(deployment)
    async with AsyncExitStack() as stack, network.stack:
        for region in deployment.topology.regions if hole else ():
            for node in region.nodes:
                network.holes[node.name] = await stack.enter_async_context(_hole(deployment, node))
        for server in deployment.servers():
            spec = spec_of(deployment, server)
            network.services[spec.name] = await stack.enter_async_context(running(spec))
        for region in deployment.topology.regions:
            for node in region.nodes:
                await network.linked(node)
        yield network
        # Before the servers stop: a client that finds its server gone tries again and again.
        await network.stack.aclose()


@dataclass(slots=True)
class Hole:
    """A relay; while it is open, it takes what comes from either side and passes nothing on."""

    is_open: bool = False


@asynccontextmanager
async def _hole(deployment: Deployment, node: Node) -> AsyncIterator[Hole]:
    hole, hub = Hole(), deployment.topology.hub
    (port,) = free_ports(1)
    config = deployment.instance(node).config
    config.write_text(config.read_text().replace(f"tls://{hub.address}:{hub.leaf_port}", f"tls://127.0.0.1:{port}"))
    relays = set()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        relays.add(task)
        task.add_done_callback(relays.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection(hub.address, hub.leaf_port)
            try:
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(_pump(reader, far_writer, hole), name="hole:up")
                    pumps.create_task(_pump(far_reader, writer, hole), name="hole:down")
            finally:
                far_writer.close()
        writer.close()

    server = await asyncio.start_server(relay, "127.0.0.1", port)
    try:
        yield hole
    finally:
        server.close()
        for task in list(relays):
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hole: Hole) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(65_536):
            if not hole.is_open:
                writer.write(piece)
                await writer.drain()
    writer.close()


def spec_of(deployment: Deployment, server: Hub | Node) -> ServiceSpec:
    """How to run one server of the deployment."""
    instance = deployment.instance(server)
    return ServiceSpec(
        name=instance.directory.name,
        argv=instance.argv,
        log=instance.directory / "output.log",
        control=instance.directory,
        is_ready=instance.is_ready,
        ready_within_s=20.0,
    )


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
