"""What only the active instance does: the database and all that serves and publishes from it, while the lease lasts."""

import asyncio
import contextlib
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import structlog
from nats.errors import Error as NatsError

from contract.admin_pb2_grpc import (
    add_AuditServicer_to_server,
    add_DocumentsServicer_to_server,
    add_FleetServicer_to_server,
    add_KnowledgeServicer_to_server,
    add_MetricsServicer_to_server,
    add_NodeTokensServicer_to_server,
)
from contract.litestream_config import RECORDS_PACE, NatsAccess
from controlplane.admin.audit_service import AuditService
from controlplane.admin.gate import Gate, HandlerCollector, Services
from controlplane.admin.server import RunningServer
from controlplane.audit import DATABASE_RESTORED, LEASE_TAKEN, AuditLog
from controlplane.beats import Beats
from controlplane.bundles.publishing import BundlePublisher
from controlplane.bundles.regions import RegionBundles, no_rosters
from controlplane.bus import Bus
from controlplane.database import HubDatabase
from controlplane.documents.application import Documents
from controlplane.documents.catalogue import Catalogue
from controlplane.documents.judgement import pack_judge
from controlplane.documents.service import DocumentsService
from controlplane.enrolment.composition import Enrolled, EnrolmentParts, enrolment_parts, open_ports, rosters_of
from controlplane.enrolment.metrics import EnrolmentMetrics
from controlplane.enrolment.rosters import Rosters
from controlplane.enrolment.token_service import NodeTokensService
from controlplane.errors import NatsUnavailableError, StreamRefusedError
from controlplane.fleet.border import BorderWatch, LinkWatch
from controlplane.fleet.cordoning import Cordoning
from controlplane.fleet.listening import FleetListener
from controlplane.fleet.service import FleetService
from controlplane.fleet.states import FleetStates
from controlplane.fleet.witness import Witness
from controlplane.knowledge.embedding import InferenceEmbedder
from controlplane.knowledge.library import KnowledgeLibrary
from controlplane.knowledge.publishing import KnowledgePublisher
from controlplane.knowledge.service import KnowledgeService
from controlplane.lease import Lease
from controlplane.metrics import HubMetrics
from controlplane.replication.keeper import ReplicaKeeper
from controlplane.replication.litestream import find_litestream
from controlplane.replication.restore import Replica
from controlplane.rollups.ingest import RollupIngest
from controlplane.rollups.keeper import RollupKeeper
from controlplane.rollups.metrics import RollupMetrics
from controlplane.rollups.service import MetricsService
from controlplane.settings import HubSettings, ReplicationSection
from controlplane.signing import Signer
from controlplane.streams import ensure_streams
from controlplane.supervision import Supervision

log = structlog.get_logger(__name__)

HUB_ACTOR = "hub"
# What is acknowledged must reach the replica within a second, from the first request on, and all of it before another
# instance begins; but a replica that stands still must not keep the hub from serving, or from ending.
REPLICATED_AT_START_S = 3.0
REPLICATED_AT_STOP_S = 5.0
# Snapshots of knowledge wait here, beside the database, until NATS has them.
SNAPSHOTS_FOLDER = "knowledge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What an instance has whether it is active or waits."""

    settings: HubSettings
    signer: Signer
    bus: Bus
    lease: Lease
    gate: Gate
    server: RunningServer
    metrics: HubMetrics
    rollup_metrics: RollupMetrics
    enrolment_metrics: EnrolmentMetrics
    border: BorderWatch
    witness: Witness
    supervision: Supervision
    stop: asyncio.Event


@dataclass(frozen=True, slots=True, kw_only=True)
class _Store:
    """The database and what is known from it."""

    database: HubDatabase
    audit: AuditLog
    catalogue: Catalogue
    # None where the hub enrols nobody.
    rosters: Rosters | None
    bundles: RegionBundles


async def be_active(instance: Instance) -> None:
    """Serve and publish until the stop signal. Raises an ExceptionGroup with LeaseLostError when the lease is lost."""
    async with AsyncExitStack() as stack:
        outer = _Tasks(await stack.enter_async_context(asyncio.TaskGroup()), stack)
        outer.start(instance.lease.keep(), "lease")
        keeper = await _replicate(instance, outer)
        store = await _open_store(instance, stack, is_restored=keeper is not None and keeper.is_restored)
        # Inside the database, so that all work has ended before it is closed.
        tasks = _Tasks(await stack.enter_async_context(asyncio.TaskGroup()), stack)
        bundles = _publisher(instance, store)
        collector = HandlerCollector()
        _serve_documents(instance, store, bundles, collector)
        enrolment = await _enrol(instance, store, bundles, stack)
        listener = _serve_fleet(instance, store, enrolment, collector, tasks)
        add_NodeTokensServicer_to_server(NodeTokensService(enrolment.desk if enrolment else None), collector)
        add_AuditServicer_to_server(AuditService(store.audit), collector)
        await _serve_knowledge(instance, store, collector, stack, tasks)
        instance.bus.on_reconnect[:] = [listener.reconnected, bundles.prepare_again]
        jetstream = instance.bus.client.jetstream()
        if keeper is not None and keeper.is_restored:
            await _go_on_above(bundles)
        # Afterwards: rollups are judged by the bundles that there are.
        _serve_rollups(instance, store, collector, tasks)
        tasks.start(bundles.run(), "bundles")
        beats = Beats(jetstream, store.catalogue.regions, instance.lease, instance.metrics, bundles.prepare_again)
        tasks.start(beats.run(), "beats")
        tasks.start(listener.run(), "fleet")
        if keeper is not None:
            await keeper.settle(REPLICATED_AT_START_S)
        _open_gate(instance, Services(handlers=collector.handlers, audit=store.audit), stack)
        await _let_nodes_in(instance, enrolment, stack, tasks)
        log.info("hub_active", regions=len(store.catalogue.regions()))
        instance.supervision.ready()
        await instance.stop.wait()
        log.info("hub_draining")
        await instance.server.drain(instance.settings.hub.drain_s)
        with contextlib.suppress(NatsError, TimeoutError):
            await bundles.publish_waiting()
        if keeper is not None:
            await keeper.settle(REPLICATED_AT_STOP_S)


class _Tasks:
    """Starts endless work that ends with the stack."""

    def __init__(self, group: asyncio.TaskGroup, stack: AsyncExitStack) -> None:
        self._group = group
        self._stack = stack

    def start(self, work: Coroutine[None, None, None], name: str) -> None:
        self._stack.callback(self._group.create_task(work, name=f"hub:{name}").cancel)


async def _replicate(instance: Instance, tasks: _Tasks) -> ReplicaKeeper | None:
    """Begin with the newest database there is, and replicate it until after it is closed."""
    section = instance.settings.replication
    if section is None:
        return None
    jetstream = instance.bus.client.jetstream()
    keeper = ReplicaKeeper(
        _replica(instance.settings, section), section, jetstream, instance.metrics, lambda: instance.lease.is_held
    )
    try:
        await keeper.prepare()
    except (NatsError, TimeoutError) as error:
        raise NatsUnavailableError(f"replica: {type(error).__name__}") from error
    tasks.start(keeper.run(), "replication")
    return keeper


async def _go_on_above(bundles: BundlePublisher) -> None:
    """Give new bundles versions above those that the lost database gave out, before anybody applies."""
    try:
        await bundles.reconcile()
    except (NatsError, TimeoutError) as error:
        raise NatsUnavailableError(f"bundles: {type(error).__name__}") from error


def _replica(settings: HubSettings, section: ReplicationSection) -> Replica:
    access = NatsAccess(
        url=settings.nats.url,
        authority=str(settings.nats.authority) if settings.nats.authority else None,
        certificate=str(section.certificate) if section.certificate else None,
        key=str(section.key) if section.key else None,
    )
    pace = replace(RECORDS_PACE, look_ms=section.look_ms, upload_ms=section.upload_ms)
    program = find_litestream(section.program)
    return Replica(path=settings.database.path, program=program, nats=access, pace=pace)


async def _open_store(instance: Instance, stack: AsyncExitStack, *, is_restored: bool) -> _Store:
    section = instance.settings.database
    is_replicated = section.is_replicated or instance.settings.replication is not None
    database = await stack.enter_async_context(
        HubDatabase(section.path, is_replicated=is_replicated, may_write=instance.lease.check)
    )
    rosters = rosters_of(instance.settings)
    store = _Store(
        database=database,
        audit=AuditLog(database),
        catalogue=Catalogue(database),
        rosters=rosters,
        bundles=RegionBundles(instance.signer, rosters.read if rosters is not None else no_rosters),
    )
    await store.catalogue.refresh()
    try:
        await ensure_streams(instance.bus.client, store.catalogue.regions())
    except (NatsError, TimeoutError) as error:
        raise NatsUnavailableError(f"streams: {type(error).__name__}") from error
    name = instance.settings.hub.name
    await store.audit.append(actor=HUB_ACTOR, role="", action=LEASE_TAKEN, target=name)
    if is_restored:
        await store.audit.append(actor=HUB_ACTOR, role="", action=DATABASE_RESTORED, target=name)
    return store


def _publisher(instance: Instance, store: _Store) -> BundlePublisher:
    async def prepare() -> None:
        await ensure_streams(instance.bus.client, store.catalogue.regions())

    return BundlePublisher(
        store.database,
        instance.bus.client.jetstream(),
        store.bundles,
        instance.lease,
        metrics=instance.metrics,
        prepare=prepare,
        reissued=store.catalogue.refresh,
    )


def _serve_documents(instance: Instance, store: _Store, bundles: BundlePublisher, collector: HandlerCollector) -> None:
    async def committed() -> None:
        known = set(store.catalogue.regions())
        await store.catalogue.refresh()
        if set(store.catalogue.regions()) - known:
            # So that who applied a region can connect its nodes; where it fails, the publisher goes on trying.
            try:
                await ensure_streams(instance.bus.client, store.catalogue.regions())
            except (NatsError, TimeoutError, StreamRefusedError) as error:
                log.warning("streams_not_made", error=type(error).__name__)
                bundles.prepare_again()
        bundles.wake()

    documents = Documents(store.database, store.bundles, pack_judge(), committed)
    add_DocumentsServicer_to_server(DocumentsService(documents), collector)


async def _enrol(
    instance: Instance, store: _Store, bundles: BundlePublisher, stack: AsyncExitStack
) -> EnrolmentParts | None:
    section = instance.settings.enrolment
    if section is None or store.rosters is None:
        log.info("nodes_not_enrolled", reason="hub.toml has no [enrolment] section")
        return None
    hub = Enrolled(
        database=store.database,
        audit=store.audit,
        rosters=store.rosters,
        bundles=store.bundles,
        regions=store.catalogue.regions,
        published=bundles.wake,
        metrics=instance.enrolment_metrics,
    )
    return await stack.enter_async_context(enrolment_parts(section, instance.settings.admin.authority, hub))


async def _let_nodes_in(
    instance: Instance, enrolment: EnrolmentParts | None, stack: AsyncExitStack, tasks: _Tasks
) -> None:
    section = instance.settings.enrolment
    if section is not None and enrolment is not None:
        tasks.start(enrolment.members.run(), "members")
        await open_ports(section, instance.settings.admin, enrolment.door, stack)


def _serve_fleet(
    instance: Instance, store: _Store, enrolment: EnrolmentParts | None, collector: HandlerCollector, tasks: _Tasks
) -> FleetListener:
    states = FleetStates(health_period_s=instance.settings.fleet.health_period_s)
    links = LinkWatch(instance.settings.nats.monitor, store.catalogue.regions, instance.metrics, instance.witness.links)
    tasks.start(links.run(), "links")
    service = FleetService(
        store.database,
        store.catalogue,
        states,
        instance.border,
        links,
        Cordoning(store.database, enrolment.authority, enrolment.members, states) if enrolment is not None else None,
    )
    add_FleetServicer_to_server(service, collector)
    return FleetListener(instance.bus.client, states, store.catalogue, instance.metrics)


async def _serve_knowledge(
    instance: Instance, store: _Store, collector: HandlerCollector, stack: AsyncExitStack, tasks: _Tasks
) -> None:
    if instance.settings.inference is None:
        log.warning("knowledge_not_served", reason="hub.toml has no [inference] section")
        return
    embedder = await stack.enter_async_context(InferenceEmbedder(instance.settings.inference.socket))
    directory = instance.settings.database.path.parent / SNAPSHOTS_FOLDER
    publisher = KnowledgePublisher(store.database, instance.bus.client.jetstream(), instance.lease, directory)
    library = KnowledgeLibrary(store.database, instance.signer, embedder, publisher, store.catalogue.regions_of)
    add_KnowledgeServicer_to_server(KnowledgeService(library), collector)
    tasks.start(library.run(), "knowledge")


def _serve_rollups(instance: Instance, store: _Store, collector: HandlerCollector, tasks: _Tasks) -> None:
    metrics = instance.rollup_metrics
    ingest = RollupIngest(instance.bus.client, store.database, names=store.catalogue, metrics=metrics)
    tasks.start(ingest.run(), "rollups")
    tasks.start(RollupKeeper(store.database, metrics=metrics).run(), "rollup-keeper")
    add_MetricsServicer_to_server(MetricsService(store.database), collector)


def _open_gate(instance: Instance, services: Services, stack: AsyncExitStack) -> None:
    stack.callback(instance.gate.close)
    instance.gate.open(services)
    instance.metrics.active.set(1)
    stack.callback(instance.metrics.active.set, 0)
