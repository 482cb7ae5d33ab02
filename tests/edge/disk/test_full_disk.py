"""Records on a real disk that fills up: calls do not notice, nothing in bounds is lost, and the order holds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from edge.call import recorder as recorder_module
from edge.call.recorder import Recorder
from edge.disk.ballast import Ballast
from edge.disk.guard import DiskGuard, space_at
from edge.disk.levels import MIB, DiskLevel
from edge.observability.metrics import CallMetrics
from edge.records.database import DatabaseSettings
from edge.records.model import ContentState
from edge.records.store import CallReader, CallStore, StoreSettings
from edge.records.verification import verify
from tests.edge.disk.test_guard import SMALL, fill
from tests.edge.records.examples import a_call, a_turn

DATABASE = DatabaseSettings(busy_timeout_s=0.2)
LONG = "so " * 30_000


@contextlib.asynccontextmanager
async def recording(directory: Path, guard: DiskGuard | None = None) -> AsyncIterator[Recorder]:
    async with CallStore(directory, StoreSettings(database=DATABASE)) as store, asyncio.TaskGroup() as tasks:
        recorder = Recorder(store, CallMetrics.create(), guard)
        running = tasks.create_task(recorder.run())
        try:
            yield recorder
        finally:
            running.cancel()
            await asyncio.wait({running})
            await recorder.flush()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.02)


def failures(recorder: Recorder) -> float:
    return sum(
        sample.value
        for metric in recorder.metrics.records_failed.collect()
        for sample in metric.samples
        if sample.name.endswith("_total")
    )


async def test_records_wait_for_room_and_all_arrive_in_order(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "RETRY_AFTER_S", 0.05)
    records = small_disk / "records"
    async with recording(records) as recorder:
        recorder.keep(a_call())
        await until(lambda: recorder.waiting == 0)
        fill(small_disk, 0)
        for seq in range(1, 21):
            recorder.keep(a_turn(seq, caller_text=LONG))
        recorder.keep(a_call(ended=True))
        await asyncio.sleep(0.5)
        assert recorder.waiting > 0
        assert failures(recorder) == 0
        (small_disk / "filler").unlink()
        await until(lambda: recorder.waiting == 0)
    reader = CallReader(records, "acme", DATABASE)
    assert [turn.seq for turn in reader.turns("c1")] == list(range(1, 21))
    assert reader.call("c1") == a_call(ended=True)
    assert verify(records, "acme", DATABASE).is_whole


async def test_when_memory_is_full_too_turns_go_before_calls(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "RETRY_AFTER_S", 0.05)
    monkeypatch.setattr(recorder_module, "WAITING_LIMIT", 10)
    records = small_disk / "records"
    async with recording(records) as recorder:
        recorder.keep(a_call("c0"))
        await until(lambda: recorder.waiting == 0)
        fill(small_disk, 0)
        for number in range(1, 7):
            recorder.keep(a_call(f"c{number}", ended=True))
            recorder.keep(a_turn(1, call_id=f"c{number}"))
            recorder.keep(a_turn(2, call_id=f"c{number}"))
        assert recorder.waiting == 10
        assert failures(recorder) == 8
        (small_disk / "filler").unlink()
        await until(lambda: recorder.waiting == 0)
    assert len(CallReader(records, "acme", DATABASE).recent_calls(20)) == 7


async def test_at_full_turns_are_written_without_words_into_the_room_of_the_ballast(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder_module, "RETRY_AFTER_S", 0.05)
    records = small_disk / "records"
    guard = DiskGuard(small_disk, thresholds=SMALL, ballast=Ballast(path=small_disk / "ballast", size_bytes=MIB))
    guard.look()
    async with recording(records, guard) as recorder:
        recorder.keep(a_call())
        recorder.keep(a_turn(1))
        await until(lambda: recorder.waiting == 0)
        fill(small_disk, 0)
        assert guard.look() is DiskLevel.FULL
        assert space_at(small_disk).free_bytes == MIB
        for seq in range(2, 30):
            recorder.keep(a_turn(seq))
        recorder.keep(a_call(ended=True))
        await until(lambda: recorder.waiting == 0)
        assert failures(recorder) == 0
    turns = CallReader(records, "acme", DATABASE).turns("c1")
    assert [turn.content_state for turn in turns] == [ContentState.READABLE] + [ContentState.ABSENT] * 28
    assert {turn.intent for turn in turns} == {"introduce"}
    assert verify(records, "acme", DATABASE).is_whole


async def test_at_shutdown_with_a_full_disk_what_waits_is_counted(small_disk: Path) -> None:
    records = small_disk / "records"
    async with recording(records) as recorder:
        recorder.keep(a_call())
        await until(lambda: recorder.waiting == 0)
        fill(small_disk, 0)
        for seq in range(1, 4):
            recorder.keep(a_turn(seq, caller_text=LONG))
    assert failures(recorder) == 3
