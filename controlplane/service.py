"""The hub, put together: what every instance has, and what only the active one does.

Start order: NATS, metrics, admin API (which refuses), lease; then, with the lease, the database and all that serves
and publishes. Losing the lease ends that inner part at once and the instance waits for the lease again. At SIGTERM the
active instance lets requests end, empties its outbox, and gives the lease back. A second signal ends at once.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog
from nats.errors import Error as NatsError

from contract.admin_pb2_grpc import (
    add_AuditServicer_to_server,
    add_DocumentsServicer_to_server,
    add_FleetServicer_to_server,
)
from controlplane.admin.audit_service import AuditService
from controlplane.admin.gate import Gate, HandlerCollector, Services
from controlplane.admin.revocation import RevocationList
from controlplane.admin.server import AdminAddress, RunningServer, admin_server
from controlplane.audit import AuditAction, AuditLog
from controlplane.beats import Beats
from controlplane.bundles.publishing import BundlePublisher
from controlplane.bus import Bus, open_bus
from controlplane.database import HubDatabase
from controlplane.documents.application import Documents
from controlplane.documents.catalogue import Catalogue
from controlplane.documents.judgement import pack_judge
from controlplane.documents.service import DocumentsService
from controlplane.errors import LeaseLostError
from controlplane.fleet.listening import FleetListener
from controlplane.fleet.service import FleetService
from controlplane.fleet.states import FleetStates
from controlplane.lease import Holder, Lease
from controlplane.metrics import HubMetrics, metrics_server
from controlplane.settings import AdminSection, HubSettings
from controlplane.signing import Signer
from controlplane.streams import ensure_streams

log = structlog.get_logger(__name__)

HUB_ACTOR = "hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Instance:
    """What an instance has whether it is active or waits."""

    settings: HubSettings
    signer: Signer
    bus: Bus
    lease: Lease
    gate: Gate
    server: RunningServer
    metrics: HubMetrics
    stop: asyncio.Event


async def serve(settings: HubSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises BoroughError when something needed is missing."""
    stop = _stop_signal()
    signer = Signer.from_file(settings.signing.key_file)
    metrics = HubMetrics.create()
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(settings.nats))
        await stack.enter_async_context(metrics_server(metrics, settings.metrics.host, settings.metrics.port))
        lease = Lease(bus.client.jetstream(), _holder(settings), ttl_s=settings.lease.ttl_s)
        stack.push_async_callback(lease.release)
        gate = Gate(
            RevocationList(settings.admin.revoked_file),
            lambda: _told(lease.active),
            lambda code: metrics.requests_refused.labels(code).inc(),
        )
        server = await stack.enter_async_context(admin_server(_address(settings.admin), gate))
        log.info("hub_listening", port=server.port)
        instance = _Instance(
            settings=settings,
            signer=signer,
            bus=bus,
            lease=lease,
            gate=gate,
            server=server,
            metrics=metrics,
            stop=stop,
        )
        while await _acquired(lease, stop):
            try:
                await _be_active(instance)
            except* LeaseLostError:
                log.warning("lease_lost")


async def _be_active(instance: _Instance) -> None:
    """Do what only one instance may. Raises an ExceptionGroup with LeaseLostError when the lease is lost."""
    settings, lease, bus = instance.settings, instance.lease, instance.bus
    jetstream = bus.client.jetstream()
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        _spawn(tasks, stack, lease.keep(), "lease")
        database = await stack.enter_async_context(
            HubDatabase(settings.database.path, is_replicated=settings.database.is_replicated, may_write=lease.check)
        )
        audit = AuditLog(database)
        catalogue = Catalogue(database)
        publisher = BundlePublisher(database, jetstream, instance.signer, lease, instance.metrics)
        states = FleetStates(health_period_s=settings.fleet.health_period_s)
        listener = FleetListener(bus.client, jetstream, states)
        bus.on_reconnect[:] = [listener.reconnected, publisher.wake]

        async def committed() -> None:
            known = set(catalogue.regions())
            await catalogue.refresh()
            if set(catalogue.regions()) - known:
                await ensure_streams(bus.client, catalogue.regions())
            publisher.wake()

        await catalogue.refresh()
        await ensure_streams(bus.client, catalogue.regions())
        await audit.append(actor=HUB_ACTOR, role="", action=AuditAction.LEASE_TAKEN, target=settings.hub.name)
        collector = HandlerCollector()
        documents = Documents(database, instance.signer, pack_judge(), committed)
        add_DocumentsServicer_to_server(DocumentsService(documents), collector)
        add_FleetServicer_to_server(FleetService(database, catalogue, states, _no_knowledge), collector)
        add_AuditServicer_to_server(AuditService(audit), collector)
        _spawn(tasks, stack, publisher.run(), "bundles")
        _spawn(tasks, stack, Beats(jetstream, catalogue.regions, lease, instance.metrics).run(), "beats")
        _spawn(tasks, stack, listener.run(), "fleet")
        stack.callback(instance.gate.close)
        instance.gate.open(Services(handlers=collector.handlers, audit=audit))
        instance.metrics.active.set(1)
        stack.callback(instance.metrics.active.set, 0)
        log.info("hub_active", regions=len(catalogue.regions()))
        await instance.stop.wait()
        log.info("hub_draining")
        await instance.server.drain(settings.hub.drain_s)
        with contextlib.suppress(NatsError, TimeoutError):
            await publisher.publish_waiting()


def _spawn(tasks: asyncio.TaskGroup, stack: AsyncExitStack, work: Coroutine[None, None, None], name: str) -> None:
    task = tasks.create_task(work, name=name)
    stack.callback(task.cancel)


async def _acquired(lease: Lease, stop: asyncio.Event) -> bool:
    """Wait for the lease or the stop signal; whether it was the lease."""
    if stop.is_set():
        return False
    async with asyncio.TaskGroup() as tasks:
        acquiring = tasks.create_task(lease.acquire(), name="lease:acquire")
        stopping = tasks.create_task(stop.wait(), name="stop")
        await asyncio.wait([acquiring, stopping], return_when=asyncio.FIRST_COMPLETED)
        acquiring.cancel()
        stopping.cancel()
    return lease.is_held and not stop.is_set()


async def _no_knowledge() -> dict[str, int]:
    return {}


def _told(active: Holder | None) -> str:
    return f"{active.name} at {active.address}" if active is not None else "none that this instance can see"


def _holder(settings: HubSettings) -> Holder:
    admin = settings.admin
    return Holder(name=settings.hub.name, address=admin.address or f"{admin.host}:{admin.port}")


def _address(section: AdminSection) -> AdminAddress:
    return AdminAddress(
        host=section.host,
        port=section.port,
        authority=section.authority,
        certificate=section.certificate,
        key=section.key,
    )


def _stop_signal() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            log.warning("hub_killed")
            sys.exit(1)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop
