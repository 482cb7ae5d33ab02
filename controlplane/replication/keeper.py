"""Keeps the replica of the hub's database: its object store made, Litestream fed and watched, stalls healed.

Neither side's word is trusted. That the database was written is seen in the database (SQLite's `data_version`), that it
was copied in the object store (the newest file's stamp).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable

import apsw
import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ObjectStoreConfig
from nats.js.errors import NotFoundError

from contract.subjects import HUB_REPLICA_BUCKET
from controlplane.cancelling import raise_if_cancelled
from controlplane.metrics import HubMetrics
from controlplane.replication.feed import STREAM, ReplicaFeed
from controlplane.replication.litestream import Litestream
from controlplane.replication.restore import Replica, take_over
from controlplane.settings import ReplicationSection

log = structlog.get_logger(__name__)

REPLICATION_STALLED = "replication_stalled"
LOOK_EVERY_S = 1.0
SETTLE_LOOK_EVERY_S = 0.05
SWEEP_EVERY_LOOKS = 10
HEAL_EVERY_S = 60.0
# Litestream's stamps are cut to the millisecond, the kernel's clock ticks every 4 ms.
STAMP_ERROR_S = 0.005
CONFIG_MODE = 0o600


class ReplicaKeeper:
    """Replicates while `run` runs; only the active instance may."""

    def __init__(
        self,
        replica: Replica,
        settings: ReplicationSection,
        jetstream: JetStreamContext,
        metrics: HubMetrics,
        may_finish: Callable[[], bool],
    ) -> None:
        """`may_finish`: whether Litestream may still upload when it is ended."""
        self._replica = replica
        self._settings = settings
        self._jetstream = jetstream
        self._metrics = metrics
        self._litestream = Litestream(
            program=replica.program,
            config=settings.directory / "litestream.yml",
            log_file=settings.directory / "litestream.log",
            may_finish=may_finish,
        )
        self._feed = ReplicaFeed(jetstream)
        self._is_open = False
        self._looking = asyncio.Lock()
        self._connection: apsw.Connection | None = None
        self._version = -1
        self._missing_since: float | None = None
        self._written_at = 0.0
        self._healed_at = time.monotonic()
        self.is_restored = False

    async def prepare(self) -> None:
        """Make the object store, the newest database, and Litestream's settings.

        Raises ReplicaRestoreError, TimeoutError and errors of nats-py.
        """
        try:
            await self._jetstream.stream_info(STREAM)
        except NotFoundError:
            config = ObjectStoreConfig(bucket=HUB_REPLICA_BUCKET, max_bytes=self._settings.bucket_limit_bytes)
            await self._jetstream.create_object_store(HUB_REPLICA_BUCKET, config)
        self.is_restored = await take_over(self._replica, self._jetstream)
        await asyncio.to_thread(self._write_config)

    async def run(self) -> None:
        """Replicate, and look every second, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._litestream.run(), name="replication:litestream")
            try:
                await self._watch()
            finally:
                if self._connection is not None:
                    self._connection.close()
                await asyncio.shield(self._feed.close())

    async def settle(self, within_s: float) -> None:
        """Wait until the replica has everything, for so long at most."""
        deadline = time.monotonic() + within_s
        while True:
            await self._look()
            if self._version >= 0 and self._missing_since is None:
                return
            if time.monotonic() > deadline:
                log.warning("hub_replica_behind", lag_s=round(self._lag_s(), 1))
                return
            raise_if_cancelled()
            await asyncio.sleep(SETTLE_LOOK_EVERY_S)

    async def _watch(self) -> None:
        looks = 0
        while True:
            await self._look()
            looks += 1
            if looks % SWEEP_EVERY_LOOKS == 0:
                with contextlib.suppress(NatsError, TimeoutError):
                    await self._feed.sweep()
                try:
                    await asyncio.to_thread(self._litestream.cut_log)
                except OSError as error:
                    log.warning("litestream_log_not_cut", detail=str(error))
            raise_if_cancelled()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        async with self._looking:
            await self._compare()

    async def _compare(self) -> None:
        before = time.time()
        try:
            version, written_at = await asyncio.to_thread(self._state)
        except (apsw.Error, OSError):  # it is being made
            return
        if version != self._version:
            # Written since the last look; the replica may lack it since then.
            if self._missing_since is None:
                self._missing_since = before - LOOK_EVERY_S
            self._version, self._written_at = version, written_at
        if not self._is_open or self._lag_s() > self._settings.stalled_after_s / 2:
            await self._open_feed()
        if self._feed.through >= self._written_at:
            self._missing_since = None
        elif self._missing_since is not None:
            self._missing_since = max(self._missing_since, self._feed.through)
        self._show()

    async def _open_feed(self) -> None:
        try:
            await self._feed.open()
            self._is_open = True
        except (NatsError, TimeoutError):
            self._is_open = False

    def _lag_s(self) -> float:
        return 0.0 if self._missing_since is None else max(0.0, time.time() - self._missing_since)

    def _show(self) -> None:
        lag_s = self._lag_s()
        is_stalled = lag_s > self._settings.stalled_after_s
        self._metrics.replication_lag.set(lag_s)
        self._metrics.replication_files.set(self._feed.uploads)
        self._metrics.replication_bytes.set(self._feed.upload_bytes)
        self._metrics.alarm.labels(REPLICATION_STALLED).set(int(is_stalled))
        if is_stalled and time.monotonic() - self._healed_at > HEAL_EVERY_S:
            # A frozen process does not free itself.
            self._healed_at = time.monotonic()
            log.error("replication_stalled", lag_s=round(lag_s))
            self._litestream.restart()

    def _state(self) -> tuple[int, float]:
        """Which content the database has, and when it was last written."""
        path = self._replica.path
        if self._connection is None:
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        version = int(str(self._connection.pragma("data_version")))
        wal = path.with_name(f"{path.name}-wal")
        written = wal if wal.exists() else path
        return version, written.stat().st_mtime - STAMP_ERROR_S

    def _write_config(self) -> None:
        self._settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        config = self._litestream.config
        draft = config.with_suffix(".new")
        draft.write_text(self._replica.config(), encoding="utf-8")
        draft.chmod(CONFIG_MODE)
        draft.replace(config)
