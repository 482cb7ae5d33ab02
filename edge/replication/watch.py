"""Watches that replicas keep up with their databases.

It trusts neither side's word. That a database was written is seen in the database itself (SQLite's `data_version`), and
that it was copied is seen in the object store: the newest file's stamp. Litestream's own "all is well" is not asked,
because it has been seen to freeze without a word (litestream issue 1083). A replica whose oldest missing write is older
than `stalled_after_s` is stalled: the alarm `replication_stalled` is raised, and cleared when it has caught up.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import apsw
import nats.errors
import structlog
from nats.js.client import JetStreamContext
from nats.js.errors import Error as JetStreamError

from edge.records.database import DatabaseSettings, open_reader
from edge.replication.databases import NodeDatabase, databases_in
from edge.replication.feed import ReplicaFeed
from edge.replication.lag import ReplicaLag
from edge.sync.connection import raise_if_cancelled

log = structlog.get_logger(__name__)

REPLICATION_STALLED = "replication_stalled"
LOOK_EVERY_S = 1.0
STAMP_ERROR_S = 0.005  # Litestream's stamps are cut to the millisecond, the kernel's clock ticks every 4 ms
ANY_FILE = 1.0  # a moment before every file
STALLED_AFTER_S = 10.0
FEED_ERRORS = (nats.errors.Error, JetStreamError, OSError, TimeoutError)


class AlarmBoard(Protocol):
    def set(self, code: str, *, is_raised: bool) -> None:
        """Raise or clear an alarm; doing it twice changes nothing."""


@dataclass(slots=True)
class _Watched:
    database: NodeDatabase
    feed: ReplicaFeed
    connection: apsw.Connection
    version: int
    lag: ReplicaLag = field(default_factory=ReplicaLag)
    is_open: bool = False


class ReplicationWatch:
    """Watches all databases of a node. `run` until cancelled."""

    def __init__(  # noqa: PLR0913 - all but one by name
        self,
        js: JetStreamContext,
        *,
        node: str,
        directory: Path,
        database: DatabaseSettings,
        alarms: AlarmBoard,
        ledger: Path | None = None,
        stalled_after_s: float = STALLED_AFTER_S,
    ) -> None:
        self._js = js
        self._node = node
        self._directory = directory
        self._settings = database
        self._ledger = ledger
        self._alarms = alarms
        self._stalled_after_s = stalled_after_s
        self._watched: dict[str, _Watched] = {}
        self._looked_at = time.time()

    @property
    def lags(self) -> Mapping[str, float]:
        """Seconds that each replica is behind, by bucket."""
        now = time.time()
        return {bucket: watched.lag.seconds(now) for bucket, watched in self._watched.items()}

    @property
    def stalled(self) -> tuple[str, ...]:
        """The buckets of replicas that are too far behind."""
        return tuple(bucket for bucket, lag in self.lags.items() if lag > self._stalled_after_s)

    @property
    def uploads(self) -> tuple[int, int]:
        """Files and bytes that arrived in all object stores since the watch began."""
        feeds = [watched.feed for watched in self._watched.values()]
        return sum(feed.uploads for feed in feeds), sum(feed.upload_bytes for feed in feeds)

    async def run(self) -> None:
        """Look every second, until cancelled."""
        try:
            while True:
                await self.look()
                raise_if_cancelled()
                await asyncio.sleep(LOOK_EVERY_S)
        finally:
            for watched in self._watched.values():
                watched.connection.close()
                with contextlib.suppress(*FEED_ERRORS):
                    await asyncio.shield(watched.feed.close())
            self._watched.clear()

    async def look(self) -> None:
        """Compare every database with its replica once."""
        before, self._looked_at = self._looked_at, time.time()
        found = await asyncio.to_thread(databases_in, self._directory, self._node, self._settings, self._ledger)
        for database in found:
            if database.bucket not in self._watched:
                await self._add(database, since=before)
        for watched in self._watched.values():
            await self._look_at(watched, since=before)
        self._alarms.set(REPLICATION_STALLED, is_raised=bool(self.stalled))

    async def sweep(self) -> int:
        """Purge what deletion left in the object stores; returns how many markers."""
        swept = 0
        for watched in self._watched.values():
            with contextlib.suppress(*FEED_ERRORS):
                swept += await watched.feed.sweep()
        return swept

    async def _add(self, database: NodeDatabase, *, since: float) -> None:
        try:
            connection = await asyncio.to_thread(open_reader, database.path, self._settings)
            version = await asyncio.to_thread(_version, connection)
        except apsw.Error:  # it is being made: the next look finds it
            return
        watched = _Watched(
            database=database,
            feed=ReplicaFeed(js=self._js, bucket=database.bucket),
            connection=connection,
            version=version,
        )
        watched.lag.changed(since=since, at=ANY_FILE)  # there must be a replica at all
        self._watched[database.bucket] = watched

    async def _look_at(self, watched: _Watched, *, since: float) -> None:
        try:
            version, written_at = await asyncio.to_thread(_state, watched)
        except (apsw.Error, OSError) as error:
            log.warning("database_not_readable", bucket=watched.database.bucket, detail=str(error))
            return
        if version != watched.version:
            watched.version = version
            watched.lag.changed(since=since, at=written_at)
        if not watched.is_open or watched.lag.seconds(self._looked_at) > self._stalled_after_s / 2:
            # A dead subscription looks like a dead replica: ask afresh before anybody is called.
            await self._open(watched)
        watched.lag.replicated_through(watched.feed.through)

    async def _open(self, watched: _Watched) -> None:
        try:
            await watched.feed.open()
            watched.is_open = True
        except FEED_ERRORS as error:
            watched.is_open = False
            log.debug("replica_not_readable", bucket=watched.database.bucket, detail=str(error))


def _state(watched: _Watched) -> tuple[int, float]:
    """Which content the database has, and when it was last written."""
    version = _version(watched.connection)
    wal = watched.database.path.with_name(watched.database.path.name + "-wal")
    try:
        return version, wal.stat().st_mtime - STAMP_ERROR_S
    except FileNotFoundError:
        return version, watched.database.path.stat().st_mtime - STAMP_ERROR_S


def _version(connection: apsw.Connection) -> int:
    return int(str(connection.pragma("data_version")))
