"""What the agent watches of its own node: the disk, the replicas of the records, the ledger of rollups, its region."""

import asyncio
from functools import partial

from contract.alarms import AlarmCode
from edge.disk.ballast import Ballast
from edge.disk.guard import DiskGuard, DiskMetrics
from edge.records.database import DatabaseSettings
from edge.replication.watch import ReplicationWatch
from edge.rollups.ledger import LedgerSettings, RollupLedger
from edge.sync.alarms import Alarms
from edge.sync.connection import NatsLink
from edge.sync.departures import Departures
from edge.sync.folder import SyncFolder
from edge.sync.isolation import Isolation
from edge.sync.isolation_watch import IsolationWatch
from edge.sync.metrics import SyncMetrics
from edge.sync.settings import ReplicationSection, SyncSettings

# Fewer copies of a stream are one copy.
COPIES_OF_A_MAJORITY = 3


def disk_guard(settings: SyncSettings, node_alarms: Alarms, metrics: SyncMetrics) -> DiskGuard:
    """The guard of the disk that holds the records; it keeps the node's ballast."""
    records, size_bytes = settings.records.directory, settings.disk.ballast_bytes
    return DiskGuard(
        records,
        alarms=node_alarms,
        ballast=Ballast(path=records / ".ballast", size_bytes=size_bytes) if size_bytes else None,
        metrics=DiskMetrics.create(metrics.registry),
    )


def rollup_ledger(settings: SyncSettings, folder: SyncFolder, node_alarms: Alarms) -> RollupLedger:
    """The node's ledger; it tells of its bound from the thread that uses it."""
    loop = asyncio.get_running_loop()

    def tell(is_coarse: bool) -> None:  # noqa: FBT001 - the ledger's callback
        loop.call_soon_threadsafe(partial(node_alarms.set, AlarmCode.ROLLUPS_COARSE, is_raised=is_coarse))

    node = settings.node
    replication = settings.replication
    ledger = LedgerSettings(is_replicated=replication is not None, records=database_settings(replication))
    return RollupLedger(folder.rollups, node.region, node.name, settings=ledger, alarm=tell)


def departures(settings: SyncSettings, folder: SyncFolder, own: NatsLink) -> Departures:
    """Has JetStream forget servers that the roster does not name any more."""
    return Departures(node=settings.node.name, own=own, roster=folder.roster)


def isolation_watch(settings: SyncSettings, folder: SyncFolder, own: NatsLink, node_alarms: Alarms) -> IsolationWatch:
    """Keeps calls away while the node is on the wrong side of a partition; nothing where streams have one copy: a
    region of one node has no sides, and of two the second must go on without the first, which holds all copies."""
    node, watch, copies = settings.node, settings.watch, settings.nats.mirror_replicas
    isolation = Isolation(
        own=node.name,
        storing=copies,
        isolated_after_s=watch.isolated_after_s,
        rejoined_after_s=watch.rejoined_after_s,
        is_isolated=folder.isolated.exists(),
    )
    return IsolationWatch(
        region=node.region,
        own=own,
        file=folder.isolated,
        isolation=isolation if copies >= COPIES_OF_A_MAJORITY else None,
        node_alarms=node_alarms,
    )


async def watch_replication(
    settings: SyncSettings, replication: ReplicationSection, folder: SyncFolder, link: NatsLink, node_alarms: Alarms
) -> None:
    """See that the replicas keep up, apart from the process that makes them: it may hang itself."""
    watch = ReplicationWatch(
        await link.ready(),
        node=settings.node.name,
        directory=settings.records.directory,
        database=database_settings(replication),
        alarms=node_alarms,
        stalled_after_s=replication.stalled_after_s,
        ledger=folder.rollups,
    )
    await watch.run()


def database_settings(replication: ReplicationSection | None) -> DatabaseSettings:
    """How the records of this node are opened."""
    if replication is None:
        return DatabaseSettings()
    return DatabaseSettings(is_replicated=True, keys_directory=replication.keys_directory)
