"""One Litestream process for as long as the lease is held: started again when it ends or stands still.

Two Litestreams on one database would spoil its replica, and so would two on one bucket. A lock file is therefore held
by the Litestream process itself, the kernel ends it when we are killed, and without the lease it is not asked to upload
what is left: by then the bucket may be another instance's.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from controlplane.errors import LitestreamMissingError

log = structlog.get_logger(__name__)

STOP_WITHIN_S = 8.0
LOCK_WITHIN_S = 10.0
RESTART_AFTER_S = 1.0
POLL_S = 0.05
# With NATS away Litestream complains several times a second, for as long as it is away.
LOG_LIMIT_BYTES = 8 * 1024 * 1024
LOG_KEPT_BYTES = 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Litestream:
    """Runs `program replicate` with the settings at `config`; output goes to `log_file`."""

    program: Path
    config: Path
    log_file: Path
    may_finish: Callable[[], bool]
    _restart: asyncio.Event = field(default_factory=asyncio.Event)

    def restart(self) -> None:
        """Stop the process, if it runs, and start it again."""
        self._restart.set()

    def cut_log(self) -> None:
        """Keep the log within LOG_LIMIT_BYTES; what stood last in it goes to `<log>.old`. Cheap; blocks."""
        with contextlib.suppress(FileNotFoundError):
            if self.log_file.stat().st_size <= LOG_LIMIT_BYTES:
                return
            try:
                with self.log_file.open("rb") as log_file:
                    log_file.seek(-LOG_KEPT_BYTES, os.SEEK_END)
                    self.log_file.with_name(f"{self.log_file.name}.old").write_bytes(log_file.read(LOG_KEPT_BYTES))
            finally:  # room first: the disk may be full of it. Litestream appends, so it goes on at the start.
                os.truncate(self.log_file, 0)

    async def run(self) -> None:
        """Keep the process running, until cancelled."""
        while True:
            self._restart.clear()
            status = None
            try:
                async with self._process() as process:
                    await self._until_ended(process)
                    status = process.returncode
            except (TimeoutError, OSError) as error:  # another one still lives; no room for the log
                log.error("litestream_not_started", detail=str(error))  # noqa: TRY400 - it says all
            if not self._restart.is_set():
                log.error("litestream_ended", status=status)
                await asyncio.sleep(RESTART_AFTER_S)

    async def _until_ended(self, process: Process) -> None:
        async with asyncio.TaskGroup() as group:
            ends = [group.create_task(process.wait()), group.create_task(self._restart.wait())]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()

    @contextlib.asynccontextmanager
    async def _process(self) -> AsyncIterator[Process]:
        lock = await _lock(self.config.with_suffix(".lock"))
        try:
            with self.log_file.open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    "setpriv", "--pdeathsig", "KILL", self.program, "replicate", "-config", self.config,
                    stdout=output, stderr=output, stdin=asyncio.subprocess.DEVNULL, pass_fds=(lock,),
                )  # fmt: skip
        finally:
            os.close(lock)
        try:
            yield process
        finally:
            await asyncio.shield(self._stop(process))

    async def _stop(self, process: Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            if process.returncode is None and self.may_finish():
                process.terminate()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(STOP_WITHIN_S):
                        await process.wait()
            if process.returncode is None:
                process.kill()
        await process.wait()


async def _lock(path: Path) -> int:
    """A descriptor that holds the lock. Raises TimeoutError while another Litestream lives."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        async with asyncio.timeout(LOCK_WITHIN_S):
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    await asyncio.sleep(POLL_S)
                else:
                    return descriptor
    except BaseException:
        os.close(descriptor)
        raise


def find_litestream(named: Path | None) -> Path:
    """The program: as named, or beside this Python, or on the PATH. Raises LitestreamMissingError."""
    beside = Path(sys.executable).with_name("litestream")
    candidates = (named,) if named is not None else (beside, Path(shutil.which("litestream") or beside))
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise LitestreamMissingError(f"{named or 'litestream'} is not there")
