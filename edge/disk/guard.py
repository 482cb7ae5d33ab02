"""Looks at a disk and says what may still be written there. Every process that writes has a guard of its own: a look
is one system call. The agent's guard also holds the ballast, raises the alarms and has the metrics."""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog
from prometheus_client import CollectorRegistry, Gauge

from edge.disk.ballast import Ballast
from edge.disk.levels import DEFAULT_THRESHOLDS, DiskLevel, DiskUse, Space, Thresholds, allows, judge

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 2.0
ALARM_CODES = {DiskLevel.LOW: "disk_low", DiskLevel.CRITICAL: "disk_critical", DiskLevel.FULL: "disk_full"}


class AlarmBoard(Protocol):
    def set(self, code: str, *, is_raised: bool) -> None:
        """Raise or clear an alarm; doing it twice changes nothing."""


class NoAlarms:
    """For processes whose disk the agent watches."""

    def set(self, code: str, *, is_raised: bool) -> None:
        """Tells nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskMetrics:
    """Gauges of the agent."""

    level: Gauge
    free_bytes: Gauge

    @classmethod
    def create(cls, registry: CollectorRegistry) -> "DiskMetrics":
        """At zero, in this registry."""
        return cls(
            level=Gauge("borough_disk_level", "0 ok, 1 low, 2 critical, 3 full", registry=registry),
            free_bytes=Gauge("borough_disk_free_bytes", "Free space where the node keeps its data", registry=registry),
        )


class DiskGuard:
    """The disk that holds `path`. `level` is of the last `look`."""

    def __init__(
        self,
        path: Path,
        *,
        thresholds: Thresholds = DEFAULT_THRESHOLDS,
        alarms: AlarmBoard | None = None,
        ballast: Ballast | None = None,
        metrics: DiskMetrics | None = None,
    ) -> None:
        self._path = path
        self._thresholds = thresholds
        self._alarms = alarms or NoAlarms()
        self._ballast = ballast
        self._metrics = metrics
        self.level = DiskLevel.OK

    def allows(self, use: DiskUse) -> bool:
        """Whether something may still be written, as of the last look."""
        return allows(self.level, use)

    def look(self) -> DiskLevel:
        """Look again; alarms and ballast follow. Never raises: a disk that cannot be asked keeps its level."""
        try:
            space = space_at(self._path)
        except OSError as error:
            log.error("disk_unreadable", detail=str(error))  # noqa: TRY400 - who writes there tells the rest
            return self.level
        before, self.level = self.level, judge(space, self.level, self._thresholds)
        if self.level is not before:
            log.warning("disk_level_changed", level=self.level.name.lower(), free_bytes=space.free_bytes)
        for level, code in ALARM_CODES.items():
            self._alarms.set(code, is_raised=level is self.level)
        if self._metrics is not None:
            self._metrics.level.set(self.level)
            self._metrics.free_bytes.set(space.free_bytes)
        self._balance(space)
        return self.level

    async def run(self) -> None:
        """Look every two seconds, until cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_EVERY_S)

    def _balance(self, space: Space) -> None:
        """Hold the ballast while the disk is well, give it up when it is full."""
        if self._ballast is None:
            return
        if self.level is DiskLevel.FULL and self._ballast.is_held:
            self._ballast.release()
            log.warning("disk_ballast_released", size_bytes=self._ballast.size_bytes)
        elif self.level is DiskLevel.OK and not self._ballast.is_held:
            # Not if holding it would itself make the disk low: it would be given up and taken again for ever.
            after = Space(free_bytes=space.free_bytes - self._ballast.size_bytes, total_bytes=space.total_bytes)
            if judge(after, DiskLevel.LOW, self._thresholds) is DiskLevel.OK:
                self._hold()

    def _hold(self) -> None:
        assert self._ballast is not None
        try:
            self._ballast.hold()
        except OSError as error:
            log.error("disk_ballast_not_held", detail=str(error))  # noqa: TRY400 - the next look tries again


def space_at(path: Path) -> Space:
    """Of the file system that holds a path. Raises OSError."""
    found = os.statvfs(path)
    return Space(free_bytes=found.f_bavail * found.f_frsize, total_bytes=found.f_blocks * found.f_frsize)


def level_of(path: Path, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> DiskLevel:
    """The level of the disk that holds a path, without memory: for programs that look once. Raises OSError."""
    return judge(space_at(path), DiskLevel.OK, thresholds)
