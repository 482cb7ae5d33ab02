"""Workers of a node know when one of them dies, and end one that hangs before its calls are taken over."""

import asyncio
import math
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge.call.siblings import FOLDER, Sibling, Siblings

OTHER = """
import asyncio, sys
from pathlib import Path
from edge.call.siblings import Sibling, Siblings

async def nothing(sibling): ...

async def main():
    me = Sibling(run=sys.argv[2], app="calls-2")
    async with Siblings(Path(sys.argv[1]), me, on_death=nothing) as siblings:
        print("ready", flush=True)
        while await asyncio.to_thread(sys.stdin.readline) == "stops\\n":
            siblings.take_nothing_over()
    print("left", flush=True)
    await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""
WITHIN_S = 20.0


class Watcher:
    """A worker that notes what it is told."""

    def __init__(self, directory: Path, *, run: str = "watcher") -> None:
        self.dead: asyncio.Queue[Sibling] = asyncio.Queue()
        self.counts: asyncio.Queue[int] = asyncio.Queue()
        self.ended = 0
        me = Sibling(run=run, app="calls-1")
        self.siblings = Siblings(
            directory,
            me,
            on_death=self._note,
            on_hung=self._count,
            on_change=self.counts.put_nowait,
        )

    async def _note(self, sibling: Sibling) -> None:
        self.dead.put_nowait(sibling)

    def _count(self) -> None:
        self.ended += 1


@asynccontextmanager
async def other(directory: Path, run: str = "other") -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OTHER, str(directory), run, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        await process.stdout.readuntil(b"ready\n")
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("is_watcher_first", [True, False])
async def test_kill_9_is_told_once_whoever_came_first(tmp_path: Path, is_watcher_first: bool) -> None:  # noqa: FBT001
    watcher = Watcher(tmp_path)
    async with asyncio.timeout(WITHIN_S):
        if is_watcher_first:
            async with watcher.siblings, other(tmp_path) as process:
                assert await watcher.counts.get() == 1
                process.kill()
                assert await watcher.dead.get() == Sibling(run="other", app="calls-2")
        else:
            async with other(tmp_path) as process, watcher.siblings:
                assert await watcher.counts.get() == 1
                process.kill()
                assert await watcher.dead.get() == Sibling(run="other", app="calls-2")
    assert watcher.dead.empty()
    assert watcher.siblings.known == ()


async def test_who_hangs_is_ended_and_cannot_wake_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With calls or without: Asterisk would go on to send it new ones."""
    monkeypatch.setattr("edge.call.siblings.SILENT_AFTER_S", 1.0)
    watcher = Watcher(tmp_path)
    async with asyncio.timeout(WITHIN_S), watcher.siblings, other(tmp_path) as process:
        assert await watcher.counts.get() == 1
        os.kill(process.pid, signal.SIGSTOP)
        await watcher.dead.get()
        assert await process.wait() == -signal.SIGKILL
    assert watcher.ended == 1


async def test_who_wakes_up_in_time_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it sent late is read before it is judged."""
    monkeypatch.setattr("edge.call.siblings.SILENT_AFTER_S", 0.6)
    monkeypatch.setattr("edge.call.siblings.CONFIRM_AFTER_S", 10.0)
    watcher = Watcher(tmp_path)
    async with asyncio.timeout(WITHIN_S), watcher.siblings, other(tmp_path) as process:
        assert await watcher.counts.get() == 1
        (link,) = watcher.siblings._links.values()
        os.kill(process.pid, signal.SIGSTOP)
        while link.heard <= asyncio.get_running_loop().time():
            await asyncio.sleep(0.05)
        judging = [task for task in asyncio.all_tasks() if task.get_name() == "siblings:hung"]
        assert judging
        os.kill(process.pid, signal.SIGCONT)
        while link.heard > asyncio.get_running_loop().time():
            await asyncio.sleep(0.05)
        assert process.returncode is None
        for task in judging:
            task.cancel()
    assert watcher.ended == 0


async def test_calls_are_left_only_to_who_lives_and_does_not_stop(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path)
    async with asyncio.timeout(WITHIN_S), watcher.siblings:
        assert not watcher.siblings.has_stand_in
        async with other(tmp_path) as process:
            assert process.stdin is not None
            assert await watcher.counts.get() == 1
            assert watcher.siblings.has_stand_in
            process.stdin.write(b"stops\n")
            while watcher.siblings.has_stand_in:
                await asyncio.sleep(0.02)
        assert await watcher.dead.get() == Sibling(run="other", app="calls-2")


async def test_who_comes_while_we_stop_is_told(tmp_path: Path) -> None:
    stopping, comer = Watcher(tmp_path, run="stopping"), Watcher(tmp_path, run="comer")
    async with asyncio.timeout(WITHIN_S), stopping.siblings:
        stopping.siblings.take_nothing_over()
        async with comer.siblings:
            assert await comer.counts.get() == 1
            while comer.siblings.has_stand_in:
                await asyncio.sleep(0.02)
            assert comer.siblings.known


async def test_who_stops_in_order_is_not_taken_for_hung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It sends nothing any more, and still writes its last records."""
    watcher = Watcher(tmp_path)
    async with asyncio.timeout(WITHIN_S), watcher.siblings, other(tmp_path) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert await watcher.counts.get() == 1
        process.stdin.write(b"\n")
        await process.stdout.readuntil(b"left\n")
        monkeypatch.setattr("edge.call.siblings.SILENT_AFTER_S", 0.3)
        monkeypatch.setattr("edge.call.siblings.CONFIRM_AFTER_S", 0.1)
        await asyncio.sleep(2.0)
        assert process.returncode is None
        process.stdin.write(b"\n")
        await watcher.dead.get()
    assert watcher.ended == 0


async def test_sockets_of_the_dead_do_not_pile_up(tmp_path: Path) -> None:
    stale = tmp_path / FOLDER / "00000000"
    async with other(tmp_path) as process:
        process.kill()
        await process.wait()
        (left,) = (tmp_path / FOLDER).iterdir()
        left.rename(stale)
    os.utime(stale, (0, 0))
    async with Watcher(tmp_path).siblings:
        assert not stale.exists()


async def test_workers_that_start_together_keep_one_link_that_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both connect; had each kept another connection, neither would hear the other any more."""
    monkeypatch.setattr("edge.call.siblings.PULSE_EVERY_S", 0.05)
    first, second = Watcher(tmp_path, run="first"), Watcher(tmp_path, run="second")
    async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
        entering = [group.create_task(each.siblings.__aenter__()) for each in (first, second)]
        await asyncio.wait(entering)
        assert await first.counts.get() == 1
        assert await second.counts.get() == 1
        await asyncio.sleep(1.0)
        for each in (first, second):
            (link,) = each.siblings._links.values()
            assert link.heard < math.inf
        for each in (first, second):
            await each.siblings.__aexit__(None, None, None)
