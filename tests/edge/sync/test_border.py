"""The border watch: counts refusals in a log that grows and is rotated."""

import asyncio
import contextlib
import os
import time
from pathlib import Path

import pytest

from contract.nats_log import RefusalKind, RefusalTally
from edge.sync import log_reader
from edge.sync.border import BorderWatch

LINE = '[1] 2026/11/23 08:03:42.651358 [ERR] 127.0.0.1:37062 - cid:8 - Publish Violation - Subject "x"\n'


async def test_refusals_are_counted_as_they_are_written(tmp_path: Path) -> None:
    """Not what stood there before; half a line counts once it is whole; a new file after rotation is read too."""
    log = tmp_path / "nats.log"
    log.write_text(LINE)
    seen: asyncio.Queue[RefusalKind] = asyncio.Queue()
    watch = BorderWatch(log, seen.put_nowait)
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        run = tasks.create_task(watch.run(), name="border")
        await asyncio.sleep(0)  # it finds the end of the log before it first waits
        with log.open("a") as file:
            file.write(LINE + LINE[:20])
            file.flush()
            assert await seen.get() is RefusalKind.PUBLISH
            assert watch.total == 1
            file.write(LINE[20:])
            file.flush()
            await seen.get()
        log.rename(tmp_path / "nats.log.2026")
        log.write_text(LINE)
        await seen.get()
        assert watch.refused == {RefusalKind.PUBLISH: 3}
        run.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await run


def test_a_log_that_is_cut_short_is_read_from_its_start(tmp_path: Path) -> None:
    """As after a copy-and-truncate rotation; and before there is a log nothing happens."""
    log = tmp_path / "nats.log"
    watch = BorderWatch(log, lambda _: None)
    watch.look()
    log.write_text(LINE * 3)
    watch.look()
    log.write_text(LINE)
    watch.look()
    assert watch.total == 4
    watch.close()


def test_what_was_rotated_away_unread_is_told(tmp_path: Path) -> None:
    """A rotated file is read to its end; what came and went between two looks is counted by its bytes."""
    log, skipped = tmp_path / "nats.log", list[int]()
    log.write_text(LINE)
    watch = BorderWatch(log, lambda _: None, skipped.append)
    watch.look()
    with log.open("a") as file:
        file.write(LINE * 2)
    log.rename(tmp_path / "nats.log.1")
    between = tmp_path / "nats.log.2"
    between.write_text(LINE * 5)
    os.utime(between, ns=(time.time_ns() + 10**9,) * 2)
    log.write_text(LINE)
    watch.look()
    assert (watch.total, skipped) == (4, [5 * len(LINE)])
    watch.close()


def test_a_flood_is_read_piece_by_piece_and_over_rotation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost where more was written than one look reads; what is no line fills no memory."""
    monkeypatch.setattr(log_reader, "READ_AT_MOST_BYTES", 10 * len(LINE))
    monkeypatch.setattr(log_reader, "LONGEST_LINE_BYTES", 2 * len(LINE))
    log, skipped = tmp_path / "nats.log", list[int]()
    log.write_text(LINE * 25)
    watch = BorderWatch(log, lambda _: None, skipped.append)
    watch.look()
    assert watch.total == 10
    log.rename(tmp_path / "nats.log.1")
    log.write_text(LINE * 2)
    for _ in range(4):
        watch.look()
    assert (watch.total, skipped) == (27, [])
    with log.open("a") as file:
        file.write("x" * 3 * len(LINE))
        file.flush()
        watch.look()
        file.write("\n" + LINE)
    watch.look()
    assert (watch.total, skipped) == (28, [3 * len(LINE)])
    watch.close()


def test_the_log_tells_of_refusals_once_a_minute_a_kind() -> None:
    tally = RefusalTally()
    told = [tally.add(RefusalKind.PUBLISH, now) for now in (0.0, 1.0, 2.0)]
    assert told == [1, 0, 0]
    assert tally.add(RefusalKind.PAYLOAD, 2.0) == 1
    assert tally.due(59.0) == {}
    assert tally.due(60.0) == {RefusalKind.PUBLISH: 2}
    assert tally.due(200.0) == {}
    assert tally.add(RefusalKind.PUBLISH, 201.0) == 1
