"""Writes records behind the calls' backs: a call never waits for the disk, and never fails because of it.

Overflow policy: `limit` records may wait; more are counted in `borough_records_failed` and logged, newest first to go.
"""

import asyncio
from dataclasses import dataclass, field

import structlog

from edge.observability.metrics import CallMetrics
from edge.records.errors import RecordsError
from edge.records.model import Record
from edge.records.store import CallStore

log = structlog.get_logger(__name__)

WAITING_LIMIT = 5_000


@dataclass(slots=True)
class Recorder:
    """Hands records to the store one after the other, in the order in which they were kept."""

    store: CallStore
    metrics: CallMetrics
    _waiting: asyncio.Queue[Record] = field(default_factory=lambda: asyncio.Queue(WAITING_LIMIT))

    def keep(self, record: Record) -> None:
        """Take a record; returns at once."""
        try:
            self._waiting.put_nowait(record)
        except asyncio.QueueFull:
            self._failed("records.overflow")

    async def run(self) -> None:
        """Write what comes, until cancelled."""
        while True:
            await self._write(await self._waiting.get())

    async def flush(self) -> None:
        """Write what is left; at shutdown, after `run` was cancelled."""
        while not self._waiting.empty():
            await self._write(self._waiting.get_nowait())

    async def _write(self, record: Record) -> None:
        try:
            await self.store.save(record)
        except RecordsError as error:
            self._failed(error.code, str(error))

    def _failed(self, code: str, detail: str = "") -> None:
        self.metrics.records_failed.labels(code=code).inc()
        log.error("record_not_written", code=code, detail=detail)
