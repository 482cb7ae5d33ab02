"""How full a disk is, and what may still be written. Pure.

Order of degradation. What can be made again goes first, what nobody can make again goes last:

| use          | stops at | what it means                                                                            |
|--------------|----------|------------------------------------------------------------------------------------------|
| `CACHES`     | LOW      | prepared audio and vectors are kept in memory only, nothing new in their folders         |
| `SNAPSHOTS`  | LOW      | knowledge snapshots are not fetched; deltas, which are small, are still applied          |
| `FINE_ROLLUPS` | CRITICAL | waiting rollups are merged into longer intervals                                       |
| `CONTENT`    | FULL     | turns are written without their words                                                    |
| `RECORDS`    | never    | calls, turns, consents and the audit log: they get the room of the ballast, then wait in |
|              |          | memory (edge/call/recorder.py) until there is room                                       |

A level is entered when free space falls below its threshold, and left when it exceeds the threshold by `HYSTERESIS`,
so that a disk at the edge does not flap. A threshold is the smaller of an amount and a share of the disk: the amount
is enough on a large disk, the share is all there is on a small one.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

GIB = 1024**3
MIB = 1024**2
HYSTERESIS = 1.2


class DiskLevel(IntEnum):
    """The fuller, the higher."""

    OK = 0
    LOW = 1
    CRITICAL = 2
    FULL = 3


class DiskUse(StrEnum):
    """What writes to the disk."""

    CACHES = "caches"
    SNAPSHOTS = "snapshots"
    FINE_ROLLUPS = "fine_rollups"
    CONTENT = "content"
    RECORDS = "records"


STOPS_AT = {
    DiskUse.CACHES: DiskLevel.LOW,
    DiskUse.SNAPSHOTS: DiskLevel.LOW,
    DiskUse.FINE_ROLLUPS: DiskLevel.CRITICAL,
    DiskUse.CONTENT: DiskLevel.FULL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Of a file system, as an ordinary user may use it."""

    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Below this much free space a level begins: the smaller of both."""

    free_bytes: int
    free_share: float

    def bytes_of(self, total_bytes: int) -> float:
        """In bytes, for a disk of this size."""
        return min(self.free_bytes, self.free_share * total_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """Where the levels begin."""

    low: Threshold = Threshold(free_bytes=8 * GIB, free_share=0.15)
    critical: Threshold = Threshold(free_bytes=2 * GIB, free_share=0.06)
    full: Threshold = Threshold(free_bytes=256 * MIB, free_share=0.02)


DEFAULT_THRESHOLDS = Thresholds()


def judge(space: Space, before: DiskLevel, thresholds: Thresholds = DEFAULT_THRESHOLDS) -> DiskLevel:
    """The level of a disk that was at `before`."""
    level = DiskLevel.OK
    steps = (
        (DiskLevel.LOW, thresholds.low),
        (DiskLevel.CRITICAL, thresholds.critical),
        (DiskLevel.FULL, thresholds.full),
    )
    for candidate, threshold in steps:
        limit = threshold.bytes_of(space.total_bytes) * (HYSTERESIS if before >= candidate else 1.0)
        if space.free_bytes < limit:
            level = candidate
    return level


def allows(level: DiskLevel, use: DiskUse) -> bool:
    """Whether something may still be written at this level."""
    return use not in STOPS_AT or level < STOPS_AT[use]
