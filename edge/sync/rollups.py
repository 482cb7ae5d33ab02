"""Rollups: counted every minute, on disk until the hub has stored them, sent at a bounded rate."""

import asyncio
import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

import structlog

from contract.errors import BoroughError
from contract.uplink_pb2 import Capacity
from edge.sync import alarms
from edge.sync.alarms import Alarms
from edge.sync.metrics import SyncMetrics
from edge.sync.settings import RollupsSection
from edge.sync.uplink import Uplink

log = structlog.get_logger(__name__)

_LOOK_EVERY_S = 1.0
# Digits of the sequence (it starts with milliseconds since 1970) after fifteen of the node: a number unique in the
# hub's stream, as the border allows nothing else.
_SEQ_DIGITS = 16
Value = TypeVar("Value")


class Ledger(Protocol):
    """Rollups of this node (`edge.rollups.ledger`); every method blocks, one thread at a time."""

    @property
    def waiting_count(self) -> int: ...
    def cut(self, records: Path, now: float, capacity: Capacity | None = None, *, step_minutes: int = 1) -> int: ...
    def waiting(self) -> Sequence[tuple[int, bytes]]: ...
    def confirm(self, seq: int) -> None: ...


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
        self.waiting = 0

    async def cut(
        self, records: Path, capacity: Callable[[], Capacity], step_minutes: Callable[[], int] = lambda: 1
    ) -> None:
        """Count what happened since the last rollup, every so often, for ever; coarser where the disk demands it."""
        while True:
            await asyncio.sleep(self._settings.every_s)
            try:
                await self._in_thread(
                    partial(self._ledger.cut, records, time.time(), capacity(), step_minutes=step_minutes())
                )
            except (BoroughError, OSError) as error:
                log.warning("rollup_not_cut", detail=type(error).__name__)

    async def send(self) -> None:
        """Send what waits, oldest first; a rollup is forgotten once the hub has stored it."""
        while True:
            try:
                await self._send_waiting()
            except (BoroughError, OSError) as error:
                log.warning("rollups_not_read", detail=type(error).__name__)
            await asyncio.sleep(_LOOK_EVERY_S)

    def message_id(self, seq: int) -> str:
        """Names a rollup for the hub's duplicate window, in digits only."""
        name = hashlib.sha256(self._subject.encode()).digest()[:6]
        return f"{int.from_bytes(name):015d}{seq:0{_SEQ_DIGITS}d}"

    async def _send_waiting(self) -> None:
        """Send until nothing waits or the hub does not answer."""
        while waiting := await self._look():
            for seq, payload in waiting:
                if not await self._uplink.stored(self._subject, payload, message_id=self.message_id(seq)):
                    return
                await self._in_thread(partial(self._ledger.confirm, seq))
                self._metrics.rollups_sent.inc()
                await asyncio.sleep(1 / self._settings.drained_per_s)

    async def _look(self) -> Sequence[tuple[int, bytes]]:
        self.waiting = await self._in_thread(lambda: self._ledger.waiting_count)
        self._metrics.rollups_waiting.set(self.waiting)
        self._alarms.set(alarms.ROLLUPS_WAITING, is_raised=self.waiting >= self._settings.alarm_waiting)
        return await self._in_thread(self._ledger.waiting) if self.waiting else ()

    async def _in_thread(self, work: Callable[[], Value]) -> Value:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
