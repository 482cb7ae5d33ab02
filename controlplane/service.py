"""The hub, put together: what every instance has, whether it is active or waits.

Start order: NATS, metrics, admin API (which refuses), lease; then, with the lease, the part in `active`. Losing the
lease ends that part at once and the instance waits for the lease again. For systemd an instance is ready that is
active, or stands by for another that is. At SIGTERM the active instance lets requests
end, empties its outbox, and gives the lease back. A second signal ends at once.
"""

import asyncio
import signal
import sys
from contextlib import AsyncExitStack

import structlog

from controlplane.active import Instance, be_active
from controlplane.admin.gate import Gate
from controlplane.admin.revocation import RevocationList
from controlplane.admin.server import AdminAddress, admin_server
from controlplane.bus import open_bus
from controlplane.enrolment.metrics import EnrolmentMetrics
from controlplane.errors import LeaseLostError
from controlplane.expiry import CertificateWatch, certificates_of
from controlplane.fleet.border import BorderWatch
from controlplane.fleet.witness import Witness
from controlplane.lease import Holder, Lease
from controlplane.metrics import HubMetrics, metrics_server
from controlplane.rollups.metrics import RollupMetrics
from controlplane.settings import AdminSection, HubSettings
from controlplane.signing import Signer
from controlplane.supervision import Supervision

log = structlog.get_logger(__name__)


async def serve(settings: HubSettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises BoroughError when something needed is missing."""
    stop = _stop_signal()
    signer = Signer.from_file(settings.signing.key_file)
    metrics = HubMetrics.create()
    rollup_metrics = RollupMetrics.create(metrics.registry)
    enrolment_metrics = EnrolmentMetrics.create(metrics.registry)
    async with AsyncExitStack() as stack:
        supervision = stack.enter_context(Supervision(describe=lambda: _status(gate, lease)))
        supervision.starting("waits for NATS")
        bus = await stack.enter_async_context(open_bus(settings.nats))
        # A region that floods its link must not cost the connection that the lease is kept over.
        ears = await stack.enter_async_context(open_bus(settings.nats))
        supervision.starting("waits for the lease")
        lease = Lease(
            bus.client.jetstream(),
            _holder(settings),
            ttl_s=settings.lease.ttl_s,
            stand_by=lambda _: supervision.ready(),
        )
        stack.push_async_callback(lease.release)
        gate = Gate(
            RevocationList(settings.admin.revoked_file),
            lambda: _told(lease.active),
            lambda code: metrics.requests_refused.labels(code).inc(),
        )
        section = settings.metrics
        await stack.enter_async_context(metrics_server(metrics, section.host, section.port, lambda: gate.is_open))
        server = await stack.enter_async_context(admin_server(_address(settings.admin), gate))
        log.info("hub_listening", port=server.port)
        border = BorderWatch(settings.nats.server_log, metrics)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(tasks.create_task(border.run(), name="hub:border").cancel)
        certificates = CertificateWatch(certificates_of(settings), settings.nats.monitor, metrics)
        stack.callback(tasks.create_task(certificates.run(), name="hub:certificates").cancel)
        witness = Witness(nats=ears.client, refused=border.refused)
        ears.on_reconnect.append(witness.links.forget)
        stack.callback(tasks.create_task(witness.run(), name="hub:witness").cancel)
        instance = Instance(
            settings=settings,
            signer=signer,
            bus=bus,
            lease=lease,
            gate=gate,
            server=server,
            metrics=metrics,
            rollup_metrics=rollup_metrics,
            enrolment_metrics=enrolment_metrics,
            border=border,
            witness=witness,
            supervision=supervision,
            stop=stop,
        )
        while await _acquired(lease, stop):
            try:
                await be_active(instance)
            except* LeaseLostError:
                log.warning("lease_lost")
        supervision.stopping("gives the lease back")


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


def _status(gate: Gate, lease: Lease) -> str:
    return "active" if gate.is_open else f"stands by; active is {_told(lease.active)}"


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
