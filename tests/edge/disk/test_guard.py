"""Levels of a real small disk, with hysteresis, alarms, metrics and ballast."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from edge.disk.ballast import Ballast
from edge.disk.guard import DiskGuard, DiskMetrics, level_of, space_at
from edge.disk.levels import GIB, MIB, DiskLevel, DiskUse, Space, Threshold, Thresholds, allows, judge

SMALL = Thresholds(
    low=Threshold(free_bytes=GIB, free_share=0.5),
    critical=Threshold(free_bytes=GIB, free_share=0.25),
    full=Threshold(free_bytes=GIB, free_share=0.1),
)


class Board:
    def __init__(self) -> None:
        self.raised: set[str] = set()

    def set(self, code: str, *, is_raised: bool) -> None:
        (self.raised.add if is_raised else self.raised.discard)(code)


def fill(directory: Path, leaving_mib: float) -> None:
    """Fill the disk up to so much."""
    filler = directory / "filler"
    filler.unlink(missing_ok=True)
    room = space_at(directory).free_bytes - round(leaving_mib * MIB)
    filler.write_bytes(bytes(room))


def test_the_order_of_degradation() -> None:
    stopped = {level: {use for use in DiskUse if not allows(level, use)} for level in DiskLevel}
    caches, content = {DiskUse.CACHES, DiskUse.SNAPSHOTS}, {DiskUse.FINE_ROLLUPS}
    assert stopped == {
        DiskLevel.OK: set(),
        DiskLevel.LOW: caches,
        DiskLevel.CRITICAL: caches | content,
        DiskLevel.FULL: caches | content | {DiskUse.CONTENT},
    }


@given(st.integers(0, 1000), st.sampled_from(DiskLevel))
def test_a_fuller_disk_is_never_at_a_lower_level(free: int, before: DiskLevel) -> None:
    here = judge(Space(free_bytes=free, total_bytes=1000), before, SMALL)
    fuller = judge(Space(free_bytes=max(0, free - 1), total_bytes=1000), before, SMALL)
    assert fuller >= here


@pytest.mark.parametrize(
    ("free", "before", "level"),
    [
        (501, DiskLevel.OK, DiskLevel.OK),
        (499, DiskLevel.OK, DiskLevel.LOW),
        (590, DiskLevel.LOW, DiskLevel.LOW),
        (610, DiskLevel.LOW, DiskLevel.OK),
        (290, DiskLevel.FULL, DiskLevel.CRITICAL),
        (99, DiskLevel.OK, DiskLevel.FULL),
        (110, DiskLevel.FULL, DiskLevel.FULL),
    ],
)
def test_a_level_is_left_later_than_it_was_entered(free: int, before: DiskLevel, level: DiskLevel) -> None:
    assert judge(Space(free_bytes=free, total_bytes=1000), before, SMALL) is level


def test_a_large_disk_is_judged_by_amount_and_a_small_one_by_share() -> None:
    assert judge(Space(free_bytes=9 * GIB, total_bytes=4000 * GIB), DiskLevel.OK) is DiskLevel.OK
    assert judge(Space(free_bytes=9 * GIB, total_bytes=20 * GIB), DiskLevel.OK) is DiskLevel.OK
    assert judge(Space(free_bytes=2 * GIB, total_bytes=20 * GIB), DiskLevel.OK) is DiskLevel.LOW


def test_levels_alarms_and_metrics_follow_a_real_disk(small_disk: Path) -> None:
    board, registry = Board(), CollectorRegistry()
    guard = DiskGuard(small_disk, thresholds=SMALL, alarms=board, metrics=DiskMetrics.create(registry))
    seen = []
    for leaving in (14, 7, 3, 1, 0, 14):
        fill(small_disk, leaving)
        seen.append((guard.look(), set(board.raised)))
    assert seen == [
        (DiskLevel.OK, set()),
        (DiskLevel.LOW, {"disk_low"}),
        (DiskLevel.CRITICAL, {"disk_critical"}),
        (DiskLevel.FULL, {"disk_full"}),
        (DiskLevel.FULL, {"disk_full"}),
        (DiskLevel.OK, set()),
    ]
    assert registry.get_sample_value("borough_disk_level") == 0.0
    assert registry.get_sample_value("borough_disk_free_bytes") == pytest.approx(14 * MIB, abs=64 * 1024)
    assert level_of(small_disk, SMALL) is DiskLevel.OK


def test_ballast_is_given_up_when_the_disk_is_full_and_taken_again(small_disk: Path) -> None:
    ballast = Ballast(path=small_disk / "ballast", size_bytes=2 * MIB)
    guard = DiskGuard(small_disk, thresholds=SMALL, ballast=ballast)
    guard.look()
    assert ballast.is_held
    assert space_at(small_disk).free_bytes == 14 * MIB
    fill(small_disk, 0)
    assert guard.look() is DiskLevel.FULL
    assert not ballast.is_held
    assert space_at(small_disk).free_bytes == 2 * MIB
    (small_disk / "filler").unlink()
    guard.look()
    assert ballast.is_held


def test_a_disk_that_is_gone_keeps_its_level(tmp_path: Path) -> None:
    guard = DiskGuard(tmp_path / "gone")
    assert guard.look() is DiskLevel.OK
