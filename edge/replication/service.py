"""Keeps a replica of every database of this node: object stores made, two Litestreams fed, stalls healed.

Records (with the ledger of rollups) and keys have a Litestream each, because retention is a setting of a whole process
and keys must go soon. A new tenant's database is found within `DISCOVER_EVERY_S`; the Litestream of its group then
starts afresh with one database more (0.5.17 can be told of new databases at run time only without TLS). A Litestream
whose replica stalls is restarted, once in `HEAL_EVERY_S`.
"""

import asyncio
import time
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import structlog
from nats.js.api import ObjectStoreConfig
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from contract.litestream_config import KEYS_PACE, RECORDS_PACE, DatabaseKind, render
from contract.subjects import object_stream
from edge.records.database import KEYS_FOLDER
from edge.replication.databases import NodeDatabase, databases_in
from edge.replication.litestream import Litestream, find_litestream
from edge.replication.settings import ReplicationSettings
from edge.replication.watch import FEED_ERRORS, AlarmBoard, ReplicationWatch
from edge.sync.connection import raise_if_cancelled

log = structlog.get_logger(__name__)

DISCOVER_EVERY_S = 2.0
HEAL_EVERY_S = 60.0
CONFIG_MODE = 0o600


class Group(StrEnum):
    """Databases that one Litestream replicates."""

    RECORDS = "records"
    KEYS = "keys"


GROUPS = {
    DatabaseKind.RECORDS: Group.RECORDS,
    DatabaseKind.LEDGER: Group.RECORDS,
    DatabaseKind.KEYS: Group.KEYS,
}
PACES = {Group.RECORDS: RECORDS_PACE, Group.KEYS: KEYS_PACE}


class ReplicationService:
    """`run` until cancelled; `js` is a connection to the region that may make streams."""

    def __init__(self, settings: ReplicationSettings, js: JetStreamContext, alarms: AlarmBoard) -> None:
        self._settings = settings
        self._js = js
        self._database = settings.records.database()
        self._known: dict[str, NodeDatabase] = {}
        self._litestreams: dict[Group, Litestream] = {}
        self._healed_at = time.monotonic()
        self.watch = ReplicationWatch(
            js,
            node=settings.node.name,
            directory=settings.records.directory,
            database=self._database,
            alarms=alarms,
            ledger=settings.records.ledger,
            stalled_after_s=settings.watch.stalled_after_s,
        )

    async def run(self) -> None:
        """Replicate until cancelled. Raises LitestreamMissingError."""
        program = find_litestream(self._settings.litestream.program)
        folder = self._settings.litestream.directory
        await asyncio.to_thread(self._make_folders, folder)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.watch.run(), name="replication:watch")
            while True:
                for group in await self._discover():
                    await asyncio.to_thread(self._write_config, group, folder)
                    if group in self._litestreams:
                        self._litestreams[group].restart()
                        continue
                    litestream = Litestream(program, _config(folder, group), folder / f"litestream-{group}.log")
                    self._litestreams[group] = litestream
                    tasks.create_task(litestream.run(), name=f"replication:{group}")
                self._heal()
                await self.watch.sweep()
                await self._cut_logs()
                raise_if_cancelled()
                await asyncio.sleep(DISCOVER_EVERY_S)

    def _make_folders(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        directory = self._settings.records.directory
        (self._settings.records.keys_directory or directory / KEYS_FOLDER).mkdir(
            parents=True, exist_ok=True, mode=0o700
        )

    async def _discover(self) -> set[Group]:
        """Groups in which there are new databases, with an object store each."""
        records = self._settings.records
        found = await asyncio.to_thread(
            databases_in, records.directory, self._settings.node.name, self._database, records.ledger
        )
        changed = set()
        for database in found:
            if database.bucket not in self._known and await self._has_bucket(database.bucket):
                self._known[database.bucket] = database
                changed.add(GROUPS[database.kind])
        return changed

    async def _has_bucket(self, bucket: str) -> bool:
        """Whether the object store is there, made if it was not. One that is there stays as it was made."""
        config = ObjectStoreConfig(
            bucket=bucket,
            replicas=self._settings.nats.replicas,
            max_bytes=self._settings.litestream.bucket_limit_bytes,
        )
        try:
            try:
                await self._js.stream_info(object_stream(bucket))
            except NotFoundError:
                await self._js.create_object_store(bucket, config)
        except FEED_ERRORS as error:
            log.warning("object_store_not_made", bucket=bucket, detail=str(error))
            return False
        return True

    def _write_config(self, group: Group, folder: Path) -> None:
        databases = tuple(known.replicated() for known in self._known.values() if GROUPS[known.kind] is group)
        pace = replace(
            PACES[group], look_ms=self._settings.litestream.look_ms, upload_ms=self._settings.litestream.upload_ms
        )
        path = _config(folder, group)
        draft = path.with_suffix(".new")
        draft.write_text(render(databases, self._settings.nats.access(), pace, metrics_port=None), encoding="utf-8")
        draft.chmod(CONFIG_MODE)
        draft.replace(path)

    async def _cut_logs(self) -> None:
        for litestream in self._litestreams.values():
            try:
                await asyncio.to_thread(litestream.cut_log)
            except OSError as error:
                log.warning("litestream_log_not_cut", detail=str(error))

    def _heal(self) -> None:
        """Restart what a stalled replica hangs on; a frozen process does not free itself."""
        stalled = {GROUPS[self._known[bucket].kind] for bucket in self.watch.stalled if bucket in self._known}
        if stalled and time.monotonic() - self._healed_at > HEAL_EVERY_S:
            self._healed_at = time.monotonic()
            for group in stalled & self._litestreams.keys():
                log.warning("litestream_restarted", group=group)
                self._litestreams[group].restart()


def _config(folder: Path, group: Group) -> Path:
    return folder / f"litestream-{group}.yml"
