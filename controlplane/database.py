"""The hub's one SQLite database: one writer thread, one reader thread, migrations. Knows no rows.

Litestream replicates the file (`is_replicated`): WAL mode, no VACUUM, and no checkpoint by us
unless it is dead. Who writes passes a
function to `write`; it runs inside BEGIN IMMEDIATE..COMMIT, so that everything it does is stored, or nothing.
"""

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import apsw

from controlplane.errors import HubDatabaseError, HubSchemaTooNewError

MIGRATION_NAME = re.compile(r"(\d{4})_[a-z]+(?:_[a-z]+)+\.sql")
BUSY_TIMEOUT_S = 2.0  # another process (litestream, a restore) holds the file for less
AUTOCHECKPOINT_PAGES = 1000  # SQLite's own default: a WAL of about 4 MB
# Checkpoints are litestream's. It empties the WAL at half of this; if it is dead, the disk must not fill.
ABANDONED_PAGES = 50_000
WAITING_WRITES = 256  # then callers wait: the disk is what limits, not memory

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step of the schema. Numbers may have gaps: each domain of the hub has a range of its own."""

    version: int
    name: str
    sql: str


def load_migrations() -> tuple[Migration, ...]:
    """All steps by number."""
    folder = resources.files("controlplane") / "migrations"
    steps: dict[int, Migration] = {}
    for entry in folder.iterdir():
        if not entry.name.endswith(".sql"):
            continue
        match = MIGRATION_NAME.fullmatch(entry.name)
        if match is None or int(match.group(1)) in steps:
            raise ValueError(f"{entry.name}: migrations are named NNNN_verb_noun.sql, each number once")
        version = int(match.group(1))
        steps[version] = Migration(version=version, name=entry.name[:-4], sql=entry.read_text(encoding="utf-8"))
    return tuple(steps[version] for version in sorted(steps))


class HubDatabase:
    """Opens, migrates and serialises access to the hub's database."""

    def __init__(
        self, path: Path, *, is_replicated: bool = False, may_write: Callable[[], None] = lambda: None
    ) -> None:
        """`may_write` is asked at both ends of every write; what it raises undoes the write (the lease's fence)."""
        self._path = path
        self._is_replicated = is_replicated
        self._may_write = may_write
        self._writer: _Lane | None = None
        self._reader: _Lane | None = None

    async def __aenter__(self) -> Self:
        """Raises HubDatabaseError."""
        writer = _Lane("hub-database:writer")
        try:
            await writer.open(lambda: _open_writer(self._path, is_replicated=self._is_replicated))
            reader = _Lane("hub-database:reader")
            await reader.open(lambda: _open_reader(self._path))
        except BaseException as error:
            await writer.close()
            if isinstance(error, apsw.Error | OSError):
                raise HubDatabaseError(f"{self._path}: {error}") from error
            raise
        self._writer, self._reader = writer, reader
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        lanes = (self._reader, self._writer)
        self._reader = self._writer = None
        for lane in lanes:
            if lane is not None:
                await lane.close()

    async def write(self, work: Callable[[apsw.Connection], Result]) -> Result:
        """Run `work` in a transaction and return its value; what it raises undoes everything.
        Raises HubDatabaseError when SQLite cannot store it."""

        def fenced(connection: apsw.Connection) -> Result:
            self._may_write()
            result = work(connection)
            self._may_write()
            return result

        return await self._run(self._writer, lambda connection: _in_transaction(connection, fenced))

    async def read(self, work: Callable[[apsw.Connection], Result]) -> Result:
        """Run `work` on a connection that cannot write; it sees one state of the database."""
        return await self._run(self._reader, lambda connection: _in_snapshot(connection, work))

    async def _run(self, lane: "_Lane | None", work: Callable[[apsw.Connection], Result]) -> Result:
        if lane is None:
            raise HubDatabaseError(f"{self._path}: the database is closed")
        try:
            return await lane.run(work)
        except (apsw.FullError, apsw.IOError, apsw.ReadOnlyError, apsw.BusyError, apsw.CorruptError) as error:
            raise HubDatabaseError(f"{self._path}: {error}") from error


class _Lane:
    """One thread with one connection."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._room = asyncio.Semaphore(WAITING_WRITES)
        self._connection: apsw.Connection | None = None

    async def open(self, opener: Callable[[], apsw.Connection]) -> None:
        self._connection = await asyncio.get_running_loop().run_in_executor(self._executor, opener)

    async def run(self, work: Callable[[apsw.Connection], Result]) -> Result:
        connection = self._connection
        assert connection is not None
        async with self._room:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, connection)

    async def close(self) -> None:
        await asyncio.to_thread(self._executor.shutdown, wait=True)
        if self._connection is not None:
            self._connection.close()


def _open_writer(path: Path, *, is_replicated: bool) -> apsw.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = apsw.Connection(str(path))
    try:
        connection.set_busy_timeout(round(BUSY_TIMEOUT_S * 1000))
        # One by one: apsw stops at the first that answers.
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            connection.execute(f"PRAGMA {pragma}")
        connection.wal_autocheckpoint(ABANDONED_PAGES if is_replicated else AUTOCHECKPOINT_PAGES)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, int(is_replicated))
        migrate(connection, load_migrations())
        path.chmod(0o600)
    except BaseException:
        connection.close()
        raise
    return connection


def _open_reader(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    connection.set_busy_timeout(round(BUSY_TIMEOUT_S * 1000))
    return connection


def migrate(connection: apsw.Connection, migrations: tuple[Migration, ...]) -> None:
    """Apply every step that is missing; each with its version row is one transaction. Raises HubSchemaTooNewError."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS schema_versions"
        " (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at_ms INTEGER NOT NULL) STRICT"
    )
    done = {row[0] for row in connection.execute("SELECT version FROM schema_versions")}
    unknown = sorted(done - {step.version for step in migrations})
    if unknown:
        raise HubSchemaTooNewError(f"{connection.filename}: this release does not know schema step {unknown[0]:04d}")
    for step in migrations:
        if step.version not in done:
            _in_transaction(connection, partial(_apply, step=step))


def _apply(connection: apsw.Connection, step: Migration) -> None:
    connection.execute(step.sql)
    connection.execute(
        "INSERT INTO schema_versions VALUES (?, ?, CAST(unixepoch('subsec') * 1000 AS INTEGER))",
        (step.version, step.name),
    )


def _in_transaction(connection: apsw.Connection, work: Callable[[apsw.Connection], Result]) -> Result:
    return _between(connection, "BEGIN IMMEDIATE", work)


def _in_snapshot(connection: apsw.Connection, work: Callable[[apsw.Connection], Result]) -> Result:
    return _between(connection, "BEGIN", work)


def _between(connection: apsw.Connection, begin: str, work: Callable[[apsw.Connection], Result]) -> Result:
    connection.execute(begin)
    try:
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk has ended it already
            connection.execute("ROLLBACK")
        raise
    return result
