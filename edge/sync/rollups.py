"""Rollups: counted every minute, on disk until the hub has stored them, sent at a bounded rate."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from contract.alarms import AlarmCode
from contract.errors import BoroughError
from contract.rollups import message_id
from contract.uplink_pb2 import Capacity
from edge.rollups.assembling import busiest
from edge.rollups.reading import NOT_TOLD, Batch
from edge.rollups.recent import Sighting
from edge.sync.alarms import Alarms
from edge.sync.metrics import SyncMetrics
from edge.sync.settings import RollupsSection
from edge.sync.uplink import Uplink

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 1.0
Value = TypeVar("Value")


class Ledger(Protocol):
    """Rollups of this node (`edge.rollups.ledger`); every method blocks, one thread at a time."""

    @property
    def waiting_count(self) -> int: ...
    def read(self, records: Path, now: float) -> Batch: ...
    def store(
        self,
        batch: Batch,
        now: float,
        capacity: Capacity | None = None,
        *,
        step_minutes: int = 1,
        told: Mapping[str, bool],
    ) -> int: ...
    def waiting(self) -> Sequence[tuple[int, bytes]]: ...
    def confirm(self, seq: int) -> None: ...


class Region(Protocol):
    """What the siblings of this node know (`edge.sync.recent_callers`)."""

    async def tell(self, sightings: Sequence[Sighting]) -> Mapping[str, bool]:
        """By call id, whether the call is a repeat; without those that could not be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CutSources:
    """Where a cut finds what it counts, and in steps of how many minutes."""

    records: Path
    region: Region
    capacity: Callable[[], Capacity]
    step_minutes: Callable[[], int] = lambda: 1


class RollupShipping:
    """Cuts and sends the rollups of one node."""

    def __init__(
        self,
        ledger: Ledger,
        uplink: Uplink,
        *,
        subject: str,
        settings: RollupsSection,
        node_alarms: Alarms,
        metrics: SyncMetrics,
    ) -> None:
        self._ledger = ledger
        self._uplink = uplink
        self._subject = subject
        self._settings = settings
        self._alarms = node_alarms
        self._metrics = metrics
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rollups")
        # Of cuts that failed: it goes with the next.
        self._unsaid: list[Capacity] = []
        self.waiting = 0

    async def cut(self, sources: CutSources) -> None:
        """Count what happened since the last rollup, every so often, for ever."""
        while True:
            await asyncio.sleep(self._settings.every_s)
            try:
                await self.cut_once(sources)
            except (BoroughError, OSError) as error:
                log.warning("rollup_not_cut", detail=type(error).__name__)

    async def cut_once(self, sources: CutSources) -> None:
        """Count all calls that have ended. Raises LedgerError.

        The region is asked before the ledger writes, not while: a cut that dies between asks again and gets the same
        answers. A region that does not answer is not asked again in this cut.
        """
        self._unsaid.append(sources.capacity())
        step_minutes = sources.step_minutes()
        is_more = is_heard = True
        while is_more:
            now = time.time()
            batch = await self._in_thread(partial(self._ledger.read, sources.records, now))
            told = await sources.region.tell(batch.sightings) if is_heard else NOT_TOLD
            is_heard = len(told) == len(batch.sightings)
            capacity = busiest(self._unsaid) if self._unsaid else None
            store = partial(self._ledger.store, batch, now, capacity, step_minutes=step_minutes, told=told)
            await self._in_thread(store)
            self._unsaid.clear()
            is_more = batch.holds_calls or (bool(told) and is_heard)

    async def send(self) -> None:
        """Send what waits, oldest first; a rollup is forgotten once the hub has stored it."""
        while True:
            try:
                await self._send_waiting()
            except (BoroughError, OSError) as error:
                log.warning("rollups_not_read", detail=type(error).__name__)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _send_waiting(self) -> None:
        """Send until nothing waits or the hub does not answer."""
        while waiting := await self._look():
            for seq, payload in waiting:
                name = message_id(self._subject, seq)
                if not await self._uplink.stored(self._subject, payload, message_id=name):
                    return
                await self._in_thread(partial(self._ledger.confirm, seq))
                self._metrics.rollups_sent.inc()
                await asyncio.sleep(1 / self._settings.drained_per_s)

    async def _look(self) -> Sequence[tuple[int, bytes]]:
        self.waiting = await self._in_thread(lambda: self._ledger.waiting_count)
        self._metrics.rollups_waiting.set(self.waiting)
        self._alarms.set(AlarmCode.ROLLUPS_WAITING, is_raised=self.waiting >= self._settings.alarm_waiting)
        return await self._in_thread(self._ledger.waiting) if self.waiting else ()

    async def _in_thread(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
