"""A hub that the test plays on a real nats-server, and the node agent on the region's, with a proxy between."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from nats.aio.client import Client
from nats.aio.msg import Msg

from contract import subjects
from contract.downlink_pb2 import Beat
from contract.streams import hub_streams, mirrors
from contract.uplink_pb2 import Ack, Health
from edge.sync.agent import run_agent
from edge.sync.rollups import Ledger
from edge.sync.settings import (
    CertificateSection,
    DiskSection,
    HubSection,
    MetricsSection,
    NatsSection,
    NodeSection,
    RecordsSection,
    RollupsSection,
    SyncSection,
    SyncSettings,
    WatchSection,
)
from provisioning.identity.names import ServiceRole
from provisioning.identity.store import IdentityStore
from provisioning.local.process import running_together
from provisioning.nats.deployment import Deployment
from tests.edge.sync.hub import REGION, SigningHub
from tests.nats_network import Network, ask, eventually, spec_of, topology

BEAT_EVERY_S = 0.3


class SilentProxy:
    """Passes TCP on to a port; while silent it accepts and forwards nothing, and nobody is told."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._speaks = asyncio.Event()
        self._speaks.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def fall_silent(self) -> None:
        self._speaks.clear()

    def speak(self) -> None:
        self._speaks.set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.CancelledError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            with contextlib.closing(far_writer):
                async with asyncio.TaskGroup() as pumps:
                    pumps.create_task(self._pump(reader, far_writer))
                    pumps.create_task(self._pump(far_reader, writer))
        self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._speaks.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@dataclass
class PlayedHub:
    """The hub's services: streams, beats, pings, bundles; it keeps what comes up."""

    signing: SigningHub
    client: Client
    acks: list[Ack] = field(default_factory=list)
    healths: list[Health] = field(default_factory=list)
    is_beating: bool = True
    answers_pings: bool = True
    _is_open: bool = True

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        for spec in hub_streams([REGION]):
            await ask(self.client, spec.create_subject, spec.request())
        for mirror in mirrors(REGION):
            await ask(self.client, mirror.consumer_create_subject, mirror.consumer_request())
        await self.client.subscribe(subjects.up(REGION), cb=self._hear)
        beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            # Not by cancellation: nats-py may swallow it.
            self._is_open = False
            await beating

    async def publish(self, payload: bytes) -> None:
        await self.client.jetstream().publish(subjects.bundle(REGION), payload)

    async def until_acked(self, version: int, *, within_s: float = 10.0) -> Ack:
        """The ack of this version."""
        async with asyncio.timeout(within_s):
            while True:
                for ack in self.acks:
                    if ack.version == version:
                        return ack
                await asyncio.sleep(0.01)

    async def _hear(self, message: Msg) -> None:
        kind = message.subject.split(".")[2]
        if kind == "ack":
            self.acks.append(Ack.FromString(message.data))
        elif kind == "health":
            self.healths.append(Health.FromString(message.data))
        elif kind == "ping" and self.answers_pings:
            await message.respond(b"")

    async def _beat(self) -> None:
        seq = 0
        while self._is_open:
            seq += 1
            beat = Beat(seq=seq, sent_at_ms=round(time.time() * 1000)).SerializeToString()
            if self.is_beating:
                for subject in (subjects.config_beat(REGION), subjects.knowledge_beat(REGION)):
                    with contextlib.suppress(Exception):
                        await self.client.jetstream().publish(subject, beat, timeout=1)
            await asyncio.sleep(BEAT_EVERY_S)


@dataclass
class World:
    """Hub and region with the link between them through a proxy."""

    network: Network
    proxy: SilentProxy
    hub: PlayedHub
    root: Path
    agent_port: int

    def settings(self, number: int = 1) -> SyncSettings:
        """Settings of the agent on a node of the region; the first one's folder is "n"."""
        key = self.root / "hub.pub"
        public = self.hub.signing.key.public_key()
        key.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        settings = settings_of(self.network, self.root, number, hub=HubSection(trusted_keys=(key,)))
        return settings if number > 1 else settings.model_copy(update={"metrics": MetricsSection(port=self.agent_port)})


def settings_of(network: Network, root: Path, number: int, *, hub: HubSection) -> SyncSettings:
    """Settings of the agent on a node, impatient; folders lie under `root`."""
    node, store = network.node(REGION, number), network.deployment.identities

    def certificate(role: ServiceRole) -> CertificateSection:
        service = node.service(role)
        return CertificateSection(certificate=store.certificate_file(service), key=store.key_file(service))

    return SyncSettings(
        node=NodeSection(region=REGION, name=node.name),
        nats=NatsSection(
            urls=(f"tls://127.0.0.1:{node.client_port}",),
            ca=store.authority_file,
            agent=certificate(ServiceRole.AGENT),
            border=certificate(ServiceRole.BORDER),
            system=certificate(ServiceRole.SYSTEM),
        ),
        hub=hub,
        sync=SyncSection(directory=root / ("n" if number == 1 else f"n{number}")),
        records=RecordsSection(directory=root / f"records-{number}"),
        metrics=MetricsSection(port=0),
        disk=DiskSection(ballast_bytes=0),
        rollups=RollupsSection(every_s=0.5),
        watch=WatchSection(health_every_s=0.3, stale_after_s=1.5, heal_after_s=1.0),
    )


@asynccontextmanager
async def world(root: Path, *, nodes: int = 1) -> AsyncIterator[World]:
    """Run everything but the agents."""
    plan = topology({REGION: nodes})
    proxy = SilentProxy(plan.hub.leaf_port)
    store = IdentityStore(root / "identity")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(proxy.serving())
        deployment = Deployment(topology=plan, identities=store, root=root / "nats")
        deployment.ensure_identities(datetime.now(UTC))
        deployment.write(datetime.now(UTC))
        servers = [deployment.instance(node) for node in plan.regions[0].nodes]
        # The region dials the proxy; the hub listens where it always does.
        straight = f":{plan.hub.leaf_port}"
        for server in servers:
            server.write(server.config.read_text(encoding="utf-8").replace(straight, f":{proxy.port}"))
        network = Network(deployment)
        specs = [spec_of(deployment, server) for server in deployment.servers()]
        await stack.enter_async_context(running_together(specs))
        await stack.enter_async_context(network.stack)
        for node in plan.regions[0].nodes:
            await network.linked(node)
        hub = PlayedHub(SigningHub(), await network.connect(network.hub, ServiceRole.CONTROLPLANE))
        await stack.enter_async_context(hub.serving())
        yield World(network=network, proxy=proxy, hub=hub, root=root, agent_port=_free_port())
        await network.stack.aclose()


@asynccontextmanager
async def agent(settings: SyncSettings, ledger: Ledger | None = None) -> AsyncIterator[None]:
    """The node agent in this process."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run_agent(settings, stop, ledger), name="agent")
        try:
            yield
        finally:
            stop.set()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(is_so: Callable[[], bool], *, within_s: float = 10.0) -> None:
    """Wait until it is so. Raises TimeoutError."""

    async def check() -> bool:
        return is_so()

    await eventually(check, within_s=within_s)
