"""The node agent: one process that keeps a node in step with the hub, and says how the node is.

Calls do not need it: workers run on what lies in the sync folder. It starts with the hub, the link or NATS away, and
ends only by a signal. README.md lists its tasks.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from contract import subjects
from contract.alarms import AlarmCode
from edge.disk.levels import DiskUse
from edge.knowledge.replica import KnowledgeReplica
from edge.observability.supervision import Supervision
from edge.rollups.ledger import HOUR
from edge.sync.acks import AckOutbox
from edge.sync.alarms import Alarms
from edge.sync.archive import KnowledgeArchive
from edge.sync.bundle import BundleReader
from edge.sync.configuration import ConfigSync
from edge.sync.connection import NatsLink
from edge.sync.cordon import Cordon
from edge.sync.expiry import CertificateWatch
from edge.sync.folder import SyncFolder
from edge.sync.follower import StreamFollower
from edge.sync.health import HealthReport
from edge.sync.knowledge import KnowledgeSync
from edge.sync.leaf import LeafLinks
from edge.sync.lock import RegionLock
from edge.sync.metrics import SyncMetrics, serving
from edge.sync.mirrors import Mirrors
from edge.sync.node_parts import departures, disk_guard, isolation_watch, rollup_ledger, watch_replication
from edge.sync.recent_callers import RecentCallers
from edge.sync.refusal_alarm import BorderAlarm
from edge.sync.rollout import Rollout
from edge.sync.rollups import CutSources, Ledger, RollupShipping
from edge.sync.sessions_bucket import SessionsBucket
from edge.sync.settings import SyncSettings
from edge.sync.slots import SlotWatch
from edge.sync.stream_watch import StreamWatch
from edge.sync.uplink import Uplink
from edge.sync.verification import TrustedKeys
from edge.sync.watch import Backoff, HubWatch, WatchedStream

log = structlog.get_logger(__name__)

_FIRST_HEAL_PAUSE_S = 5.0
_CANCEL_AGAIN_S = 0.2
Task = tuple[str, Coroutine[object, object, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """The agent's connections: what may cross, what must not leave, the servers themselves."""

    border: NatsLink
    agent: NatsLink
    system: NatsLink
    # As `system`, but to the node's own server and no other.
    own: NatsLink

    def all(self) -> tuple[NatsLink, ...]:
        return (self.border, self.agent, self.system, self.own)


async def run_agent(settings: SyncSettings, stop: asyncio.Event, ledger: Ledger | None = None) -> None:
    """Run until `stop`, with the node's own ledger of rollups unless another is given.

    Raises BoroughError and OSError for what only an operator can mend.
    """
    keys = TrustedKeys.load(settings.hub.trusted_keys)
    folder = SyncFolder(settings.sync.directory, node=settings.node.name, bundles_kept=settings.sync.bundles_kept)
    reader = BundleReader(region=settings.node.region, keys=keys, limit_bytes=settings.sync.bundle_limit_bytes)
    await asyncio.to_thread(folder.prepare)
    await asyncio.to_thread(settings.records.directory.mkdir, parents=True, exist_ok=True)
    log.info("bundle_recovered", bundle=await asyncio.to_thread(folder.recover, reader))
    agent = _Agent(settings, keys, folder, reader)
    async with AsyncExitStack() as stack:
        supervision = stack.enter_context(Supervision(describe=agent.status))
        await stack.enter_async_context(serving(agent.metrics, settings.metrics.host, settings.metrics.port))
        # Before anything is written: on a full disk this gives up the ballast.
        await asyncio.to_thread(agent.disk.look)
        ledger = ledger or stack.enter_context(rollup_ledger(settings, folder, agent.alarms))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(work, name=name) for name, work in agent.tasks(ledger)]
        log.info("agent_ready", region=settings.node.region, node=settings.node.name)
        supervision.ready()
        try:
            await stop.wait()
        finally:
            supervision.stopping("ends its connections")
            log.info("agent_stopping")
            await _end(tasks)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: nats-py swallows a cancellation that meets it while it flushes."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)


class _Agent:
    """All parts, joined."""

    def __init__(self, settings: SyncSettings, keys: TrustedKeys, folder: SyncFolder, reader: BundleReader) -> None:
        node = settings.node
        self._settings = settings
        self._folder = folder
        self.metrics = SyncMetrics.create()
        self.alarms = Alarms(self.metrics.registry)
        self._links = _links(settings)
        roles = {"agent": settings.nats.agent, "border": settings.nats.border, "system": settings.nats.system}
        self._certificates = CertificateWatch(roles, self.alarms, self.metrics.registry)
        self._acks = AckOutbox(folder.acks, node.region, node.name)
        self._rollout = Rollout(folder, self._acks, self.alarms, settings.sync)
        self._config = ConfigSync(
            region=node.region,
            folder=folder,
            reader=reader,
            rollout=self._rollout,
            acks=self._acks,
            node_alarms=self.alarms,
        )
        self._replica = KnowledgeReplica(folder.knowledge)
        self._knowledge = KnowledgeSync(
            region=node.region,
            keys=keys,
            replica=self._replica,
            archive=KnowledgeArchive(
                self._links.border, node.region, snapshot_limit_bytes=settings.sync.snapshot_limit_bytes
            ),
            downloads=folder.downloads,
            acks=self._acks,
            node_alarms=self.alarms,
        )
        self.disk = disk_guard(settings, self.alarms, self.metrics)
        self._knowledge.has_room = lambda: self.disk.allows(DiskUse.SNAPSHOTS)
        lock = RegionLock(self._links.agent, node.name, replicas=settings.nats.mirror_replicas)
        self._sessions = SessionsBucket(self._links.agent, replicas=settings.nats.mirror_replicas)
        self._mirrors = Mirrors(node.region, self._links.border, lock, replicas=settings.nats.mirror_replicas)
        self._streams = [
            self._watched("config", subjects.config_stream(node.region), AlarmCode.CONFIG_STALE, self._config),
            self._watched(
                "knowledge", subjects.knowledge_stream(node.region), AlarmCode.KNOWLEDGE_STALE, self._knowledge
            ),
        ]
        self._watch = HubWatch(
            region=node.region,
            node=node.name,
            border=self._links.border,
            leafs=LeafLinks(self._links.system),
            lock=lock,
            mirrors=self._mirrors,
            streams=self._streams,
            node_alarms=self.alarms,
            metrics=self.metrics,
            settings=settings.watch,
        )
        snapshots = subjects.object_stream(subjects.snapshot_bucket(node.region))
        self._knowledge.snapshot_missing = lambda: self._watch.want_mirror_anew(snapshots)
        self._uplink = Uplink(self._links.border, node.region, node.name)
        self._slots = SlotWatch(settings.slots, folder.running)
        own = settings.slots.cordon_file if settings.slots is not None else None
        self._cordon = Cordon.of(own, folder.root)
        self._shipping: RollupShipping | None = None
        self._border_alarm = BorderAlarm(settings.nats.server_log, self.alarms, self.metrics)

    def status(self) -> str:
        """One line for operators: what runs, and what is wrong."""
        alarms = ", ".join(self.alarms.raised()) or "none"
        return f"bundle {self._rollout.running}, hub {self._watch.sign.replace('_', ' ')}, alarms: {alarms}"

    def tasks(self, ledger: Ledger) -> Sequence[Task]:
        """Every task of the agent, by name."""
        settings, health = self._settings, self._health()
        self._shipping = shipping = self._ship(ledger)
        tasks: list[Task] = [(f"nats:{link.name}", link.run()) for link in self._links.all()]
        tasks += [(f"follow:{stream.label}", stream.follower.run()) for stream in self._streams]
        tasks += [
            ("mirrors", self._mirrors.run()),
            ("config", self._config.run()),
            ("rollout", self._rollout.run()),
            ("knowledge", self._apply_knowledge()),
            ("watch", self._watch.run()),
            ("acks", self._uplink.send_acks(self._acks)),
            ("health", self._uplink.send_health(health.message, every_s=settings.watch.health_every_s)),
            ("rollups:cut", shipping.cut(self._cut_sources())),
            ("rollups:send", shipping.send()),
            ("disk", self.disk.run()),
            ("certificates", self._certificates.run()),
            ("border", self._border_alarm.run()),
            ("sessions", self._sessions.run()),
            ("departures", departures(settings, self._folder, self._links.own).run()),
            ("isolation", isolation_watch(settings, self._folder, self._links.own, self.alarms).run()),
        ]
        if settings.nats.agent is not None and settings.nats.border is not None:
            tasks.append(("streams", self._stream_watch().run()))
        if settings.replication is not None:
            watch = watch_replication(settings, settings.replication, self._folder, self._links.agent, self.alarms)
            tasks.append(("replication", watch))
        return tasks

    def _stream_watch(self) -> StreamWatch:
        links = self._links
        return StreamWatch(
            region=self._settings.node.region,
            agent=links.agent,
            border=links.border,
            refused=self._border_alarm.refused,
        )

    def _cut_sources(self) -> CutSources:
        return CutSources(
            records=self._settings.records.directory,
            region=RecentCallers(self._links.agent, replicas=self._settings.nats.mirror_replicas),
            capacity=self._slots.since_last,
            step_minutes=self._rollup_minutes,
        )

    def _rollup_minutes(self) -> int:
        return 1 if self.disk.allows(DiskUse.FINE_ROLLUPS) else HOUR

    def _ship(self, ledger: Ledger) -> RollupShipping:
        node = self._settings.node
        return RollupShipping(
            ledger,
            self._uplink,
            subject=subjects.rollup(node.region, node.name),
            settings=self._settings.rollups,
            node_alarms=self.alarms,
            metrics=self.metrics,
        )

    async def _apply_knowledge(self) -> None:
        for damaged in await asyncio.to_thread(self._replica.examine):
            log.warning("knowledge_set_aside", tenant=damaged.tenant)
        await self._knowledge.run()

    def _watched(self, label: str, stream: str, alarm: str, sync: ConfigSync | KnowledgeSync) -> WatchedStream:
        return WatchedStream(
            label=label,
            alarm=alarm,
            follower=StreamFollower(self._links.border, stream, sync.handle),
            beats=sync.beats,
            backoff=Backoff(_FIRST_HEAL_PAUSE_S, self._settings.watch.heal_at_most_every_s),
        )

    def _health(self) -> HealthReport:
        return HealthReport(
            node=self._settings.node,
            slots=self._slots,
            cordon=self._cordon,
            rollout=self._rollout,
            knowledge=self._knowledge,
            config_beats=self._config.beats,
            node_alarms=self.alarms,
            metrics=self.metrics,
            rollups_waiting=lambda: self._shipping.waiting if self._shipping is not None else 0,
            border_refusals=lambda: self._border_alarm.total,
        )


def _links(settings: SyncSettings) -> Links:
    nats, node = settings.nats, settings.node
    return Links(
        border=NatsLink("border", nats, nats.border, inbox_prefix=subjects.inbox(node.region, node.name)),
        agent=NatsLink("agent", nats, nats.agent),
        system=NatsLink("system", nats, nats.system),
        own=NatsLink("own", nats.model_copy(update={"urls": nats.urls[:1]}), nats.system),
    )
