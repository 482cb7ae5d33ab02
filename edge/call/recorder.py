"""Writes records behind the calls' backs: a call never waits for the disk, and never fails because of it.

What cannot be written now (the disk is full, read-only, or the database is locked) waits in memory and is tried again,
in order; up to `WAITING_LIMIT` records wait. Overflow policy: turns, tool runs and transfers go first, the oldest
before the newer; the record of a call is only dropped when nothing else is left. Everything dropped is counted in
`borough_records_failed` and logged. Where the disk guard allows no content, turns are written without their words, and
states of running calls not at all. A state replaces the one of its call that still waits.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field, replace

import structlog

from edge.disk.guard import DiskGuard
from edge.disk.levels import DiskUse
from edge.observability.metrics import CallMetrics
from edge.records.errors import (
    RecordsError,
    StoreFullError,
    StoreLockedError,
    StoreOverloadedError,
    StoreReadOnlyError,
)
from edge.records.model import CallRecord, ContentState, Record, StateRecord, TurnRecord
from edge.records.store import CallStore

log = structlog.get_logger(__name__)

WAITING_LIMIT = 5_000  # about 10 MB
RETRY_AFTER_S = 1.0
# Of one record: a database that another program holds for ever must not hold up those of other tenants.
LOCKED_TRIES = 3
OVERFLOW = "records.overflow"


@dataclass(slots=True)
class Recorder:
    """Hands records to the store one after the other, in the order in which they were kept."""

    store: CallStore
    metrics: CallMetrics
    guard: DiskGuard | None = None
    _waiting: deque[Record] = field(default_factory=deque)
    _has_work: asyncio.Event = field(default_factory=asyncio.Event)
    _is_settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def waiting(self) -> int:
        """Records that are not on disk yet."""
        return len(self._waiting)

    def keep(self, record: Record) -> None:
        """Take a record; returns at once."""
        if isinstance(record, StateRecord) and not self._takes_state(record):
            return
        if len(self._waiting) >= WAITING_LIMIT:
            self._make_room()
        self._waiting.append(record)
        self._has_work.set()

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            if self.guard is not None:
                tasks = await stack.enter_async_context(asyncio.TaskGroup())
                stack.callback(tasks.create_task(self.guard.run(), name="records:disk").cancel)
            while True:
                await self._has_work.wait()
                if not await self._write_waiting():
                    await asyncio.sleep(RETRY_AFTER_S)

    async def settled(self, within_s: float) -> bool:
        """Wait until nothing waits, for at most so long; False where something still does."""
        try:
            async with asyncio.timeout(within_s):
                while self._waiting:
                    self._is_settled.clear()
                    await self._is_settled.wait()
        except TimeoutError:
            return False
        return True

    async def flush(self) -> None:
        """Write what is left; at shutdown, after `run` was cancelled. What the disk does not take now is counted."""
        if not await self._write_waiting():
            for record in self._waiting:
                self._failed("records.lost_at_shutdown", type(record).__name__)
            self._waiting.clear()

    async def _write_waiting(self) -> bool:
        """Write until nothing waits; False when the disk takes no more now."""
        tries = 0
        while self._waiting:
            record = self._waiting[0]
            try:
                await self.store.save(self._within_room(record))
            except (StoreFullError, StoreReadOnlyError):
                return False
            except (StoreLockedError, StoreOverloadedError) as error:
                tries += 1
                if tries < LOCKED_TRIES:
                    continue
                self._failed(error.code, str(error))
            except RecordsError as error:
                self._failed(error.code, str(error))
            tries = 0
            if self._waiting and self._waiting[0] is record:  # else an overflow dropped it meanwhile
                self._waiting.popleft()
        self._has_work.clear()
        self._is_settled.set()
        return True

    def _takes_state(self, record: StateRecord) -> bool:
        if self.guard is not None and not self.guard.allows(DiskUse.CONTENT):
            return False
        # The first is being written.
        older = [each for each in self._waiting if isinstance(each, StateRecord) and each.call_id == record.call_id]
        for each in older:
            if each is not self._waiting[0]:
                self._waiting.remove(each)
        return True

    def _within_room(self, record: Record) -> Record:
        if isinstance(record, TurnRecord) and self.guard is not None and not self.guard.allows(DiskUse.CONTENT):
            return replace(record, caller_text="", agent_text="", content_state=ContentState.ABSENT)
        return record

    def _make_room(self) -> None:
        for index, record in enumerate(self._waiting):
            if not isinstance(record, CallRecord):
                del self._waiting[index]
                break
        else:
            self._waiting.popleft()
        self._failed(OVERFLOW)

    def _failed(self, code: str, detail: str = "") -> None:
        self.metrics.records_failed.labels(code=code).inc()
        log.error("record_not_written", code=code, detail=detail)
