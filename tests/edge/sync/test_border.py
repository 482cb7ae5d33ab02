"""The border watch: counts refusals in a log that grows and is rotated."""

import asyncio
import contextlib
from pathlib import Path

from contract.nats_log import RefusalKind
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
