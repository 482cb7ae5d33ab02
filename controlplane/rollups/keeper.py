"""Keeps the store of rollups small, and the percentiles on /metrics new.

Minutes are kept for three days, hours for two months, days for three years.
"""

import asyncio
import time
from dataclasses import dataclass

import apsw
import structlog

from controlplane.cancelling import raise_if_cancelled
from controlplane.database import HubDatabase
from controlplane.errors import HubDatabaseError
from controlplane.rollups import capacity, store
from controlplane.rollups.metrics import LatencyRow, RollupMetrics
from controlplane.rollups.querying import grouped, latency_rows
from controlplane.rollups.store import Selection

log = structlog.get_logger(__name__)

HOUR, DAY = 60, 1440


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """For how many days entries are kept by the minute, by the hour and by the day. `seq_days`: for how long the number
    of a rollup is remembered by itself; after that every smaller one of the node counts as seen."""

    minute_days: int = 3
    hour_days: int = 60
    day_days: int = 1_095
    seq_days: int = 35


class RollupKeeper:
    """Works while `run` runs; only the active instance of the hub has one."""

    def __init__(
        self,
        database: HubDatabase,
        *,
        metrics: RollupMetrics,
        retention: Retention | None = None,
        every_s: float = 15.0,
    ) -> None:
        self._database = database
        self._metrics = metrics
        self._retention = retention or Retention()
        self._every_s = every_s

    async def run(self) -> None:
        """Tidy and show, for ever."""
        while True:
            try:
                await self.tidy(time.time_ns() // 1_000_000)
                await self.show(time.time_ns() // 1_000_000)
            except HubDatabaseError as error:
                log.warning("rollups_not_tidied", error=type(error).__name__)
            raise_if_cancelled()
            await asyncio.sleep(self._every_s)

    async def tidy(self, now_ms: int) -> None:
        """Merge what is old, delete what is too old."""
        today, kept = now_ms // 60_000, self._retention
        for days, step_minutes in ((kept.minute_days, HOUR), (kept.hour_days, DAY)):
            while await self._coarsen(today - days * DAY, step_minutes):
                pass
        await self._database.write(
            lambda connection: capacity.tidy(
                connection,
                minutes_before=today - kept.minute_days * DAY,
                hours_before=today - kept.hour_days * DAY,
            )
        )
        seqs_before_ms = now_ms - kept.seq_days * DAY * 60_000
        await self._database.write(
            lambda connection: store.forget(
                connection, entries_before_minute=today - kept.day_days * DAY, seqs_before_ms=seqs_before_ms
            )
        )

    async def show(self, now_ms: int) -> None:
        """Show the percentiles of the newest hour, and how full the nodes were in it."""
        selection = Selection(first_minute=now_ms // 60_000 - HOUR)
        self._metrics.show_latencies(await self._database.read(lambda connection: _latencies(connection, selection)))
        self._metrics.show_capacity(await self._database.read(lambda connection: capacity.read(connection, selection)))

    async def _coarsen(self, before_minute: int, step_minutes: int) -> int:
        return await self._database.write(
            lambda connection: store.coarsen(connection, before_minute=before_minute, step_minutes=step_minutes)
        )


def _latencies(connection: apsw.Connection, selection: Selection) -> list[LatencyRow]:
    groups = grouped(store.read_entries(connection, selection), by_intent=False)
    return [row for group in groups for row in latency_rows(group)]
