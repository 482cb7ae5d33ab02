"""The way into the records for calls: an async facade over one writer thread, and readers for page and CLI.

Theory of operation. `save` puts the record into a bounded queue and returns once it is on disk, or raises. The writer
thread takes all that is waiting, writes it as one transaction per tenant (group commit: one fsync for many calls) and
answers each waiter. A record that breaks a constraint (or cannot be a row at all) fails alone, inside its savepoint;
no error of any kind ends the thread. A database that cannot be written fails every record of its tenant with a typed
error and is opened afresh for the next one, so that recording goes on by itself once the disk has room.

Overflow policy: the queue holds `queue_limit` records; a `save` that finds it full waits, and raises
StoreOverloadedError at its deadline. A record is either acknowledged or its error raised; none is dropped silently.
(A save that hit its deadline while being written may still reach the disk; writes are idempotent.)
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw

from edge.records import rows
from edge.records.database import DatabaseSettings, database_path, open_reader
from edge.records.errors import RecordsError, StoreClosedError, StoreOverloadedError, from_sqlite
from edge.records.files import Request, Result, TenantFiles
from edge.records.keyring import KeyReader, open_key_reader
from edge.records.model import (
    Adopted,
    Adoption,
    CallRecord,
    Orphan,
    Record,
    Resumptions,
    ToolRunRecord,
    TransferRecord,
    TurnRecord,
)
from edge.records.presence import RunId

GROUP_LIMIT = 256  # records in one transaction: bounds how long a group holds the write lock


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """Limits of the store. `save_deadline_s` must exceed the busy timeout, or locks look like overload."""

    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    queue_limit: int = 1000
    save_deadline_s: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    record: Request
    done: asyncio.Future[Adopted | None]


class CallStore:
    """Writes the records of all tenants of this worker into `directory`, one database each.

    `closes_orphans`: end what dead workers left open at once, as nobody will adopt it.
    """

    def __init__(self, directory: Path, settings: StoreSettings, *, closes_orphans: bool = True) -> None:
        self._settings = settings
        self._closes_orphans = closes_orphans
        self._queue: queue.Queue[_Pending | None] = queue.Queue(settings.queue_limit + 1)
        self._room = asyncio.Semaphore(settings.queue_limit)
        self._thread = threading.Thread(target=self._run, name="records:writer", daemon=True)
        self._files = TenantFiles(directory, settings.database)
        self._is_open = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._is_open = True
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Write what is queued, then close the files; waits at most the save deadline."""
        self._is_open = False
        with contextlib.suppress(queue.Full):
            await asyncio.to_thread(self._queue.put, None, timeout=self._settings.save_deadline_s)
            await asyncio.to_thread(self._thread.join, self._settings.save_deadline_s)

    @property
    def run(self) -> RunId:
        """Who this run of a worker is."""
        return self._files.run

    async def save(self, record: Record) -> None:
        """Put a record on disk; calls and turns may be saved again with more known. Raises RecordsError,
        CallTakenOverError among them: the call is another worker's now."""
        await self._request(record)

    async def adopt(self, orphan: Orphan, *, goes_on: bool = True) -> Adopted | None:
        """Make a dead worker's call ours, to go on with it or only to end it; None where it has ended, or another was
        faster. Raises RecordsError.
        """
        return await self._request(Adoption(orphan=orphan, goes_on=goes_on))

    async def _request(self, record: Request) -> Adopted | None:
        if not self._is_open:
            raise StoreClosedError("the store is closed")
        pending = _Pending(record=record, done=asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(self._settings.save_deadline_s), self._room:
                self._queue.put_nowait(pending)
                return await pending.done
        except (TimeoutError, queue.Full) as error:  # full: earlier saves gave up, their records still wait
            raise StoreOverloadedError(
                f"{record.tenant}: a record of call {record.call_id} was not written within "
                f"{self._settings.save_deadline_s} s"
            ) from error

    def _run(self) -> None:
        with contextlib.closing(self._files):
            self._files.prepare(closes_orphans=self._closes_orphans)
            is_last = False
            while not is_last:
                group, is_last = self._take_group()
                by_tenant: dict[str, list[_Pending]] = {}
                for pending in group:
                    by_tenant.setdefault(pending.record.tenant, []).append(pending)
                for tenant, members in by_tenant.items():
                    self._answer(members, self._files.write(tenant, [member.record for member in members]))

    def _take_group(self) -> tuple[list[_Pending], bool]:
        group: list[_Pending] = []
        item = self._queue.get()
        while item is not None:
            group.append(item)
            if len(group) == GROUP_LIMIT:
                return group, False
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return group, False
        return group, True

    def _answer(self, members: Sequence[_Pending], results: Sequence[Result]) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
            self._loop.call_soon_threadsafe(_resolve, members, results)


def _resolve(members: Sequence[_Pending], results: Sequence[Result]) -> None:
    for member, result in zip(members, results, strict=True):
        if member.done.done():
            continue
        if isinstance(result, RecordsError):
            member.done.set_exception(result)
        else:
            member.done.set_result(result)


class CallReader:
    """Reads one tenant's records; for the page and the CLI. Every method blocks: use a thread in a service.

    Content that cannot be read is empty, and `content_state` says why.
    """

    def __init__(self, directory: Path, tenant: str, settings: DatabaseSettings) -> None:
        self._directory = directory
        self._tenant = tenant
        self._path = database_path(directory, tenant)
        self._settings = settings

    def recent_calls(self, limit: int) -> tuple[CallRecord, ...]:
        """The newest calls first; empty when the tenant had none."""
        with self._reading() as connection:
            return rows.read_recent_calls(connection, limit) if connection else ()

    def call(self, call_id: str) -> CallRecord | None:
        """One call, or None."""
        with self._reading() as connection:
            return rows.read_call(connection, call_id) if connection else None

    def resumptions(self, call_id: str) -> Resumptions:
        """Whether a call was cut off and resumed as another, and whether it goes on with one."""
        with self._reading() as connection:
            return rows.read_resumptions(connection, call_id) if connection else Resumptions()

    def turns(self, call_id: str) -> tuple[TurnRecord, ...]:
        """The turns of a call, in order."""
        with self._reading() as connection, self._keys() as keys:
            return rows.read_turns(connection, keys, call_id) if connection else ()

    def tool_runs(self, call_id: str) -> tuple[ToolRunRecord, ...]:
        """The tool runs of a call, in order."""
        with self._reading() as connection:
            return rows.read_tool_runs(connection, call_id) if connection else ()

    def transfers(self, call_id: str) -> tuple[TransferRecord, ...]:
        """The transfers of a call, in order."""
        with self._reading() as connection, self._keys() as keys:
            return rows.read_transfers(connection, keys, call_id) if connection else ()

    @contextlib.contextmanager
    def _keys(self) -> Iterator[KeyReader]:
        try:
            with contextlib.closing(open_key_reader(self._directory, self._tenant, self._settings)) as keys:
                yield keys
        except apsw.Error as error:
            raise from_sqlite(error, self._path) from error

    @contextlib.contextmanager
    def _reading(self) -> Iterator[apsw.Connection | None]:
        if not self._path.exists():
            yield None
            return
        try:
            with contextlib.closing(open_reader(self._path, self._settings)) as connection:
                yield connection
        except apsw.Error as error:
            raise from_sqlite(error, self._path) from error
