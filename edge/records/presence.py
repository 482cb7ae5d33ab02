"""Which runs of call workers are alive, so that the calls of a dead one can be closed.

A run is an exclusive `flock` on a file of its own in `<records>/workers/`, taken before the first record is written
and held for the life of the process. The kernel gives it back when the process dies, however it dies, and a run's
name is never used twice. It begins with the boot that it belongs to: the calls of another boot's run were lost with the
node, and not with one worker. So a call that is still open is an orphan exactly when the lock of its run is free: no
heartbeat to tune, no process id that another program may have got.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NewType, Self

from edge.shared_folder import file_mode

RunId = NewType("RunId", str)

FOLDER = "workers"
DRAFT = "."
SWEEPER = ".sweeper"
RUN_BYTES = 8
BOOT_CHARACTERS = 8
BOOT_FILE = Path("/proc/sys/kernel/random/boot_id")


class Presence:
    """One run; alive inside the `with` block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory / FOLDER
        self.run = RunId(f"{_boot()}-{secrets.token_hex(RUN_BYTES)}")
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        # It gets its name when it is locked: a worker that starts beside us must never see it unlocked, and dead.
        draft = self._directory / f"{DRAFT}{self.run}"
        self._descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file_mode(self._directory))
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            draft.rename(self._directory / self.run)
        except BaseException:
            os.close(self._descriptor)
            draft.unlink(missing_ok=True)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        (self._directory / self.run).unlink(missing_ok=True)
        os.close(self._descriptor)


def is_alive(directory: Path, run: str) -> bool:
    """Whether a process still holds this run."""
    try:
        descriptor = os.open(directory / FOLDER / run, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        # Shared: two who ask at the same time must not take each other for the run.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def was_lost_with_its_node(run: str | None) -> bool:
    """Whether a run was of another boot or another machine; False where it does not say."""
    boot, dash, _ = (run or "").partition("-")
    return bool(dash) and boot != _boot()


def _boot() -> str:
    return BOOT_FILE.read_text(encoding="ascii")[:BOOT_CHARACTERS]


def forget_dead(directory: Path) -> None:
    """Remove the files of dead runs; a missing file says the same."""
    for path in (directory / FOLDER).iterdir():
        if not path.name.startswith(DRAFT) and not is_alive(directory, path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def sole_sweeper(directory: Path) -> Iterator[None]:
    """One at a time looks after what dead runs left; waits for its turn. The kernel ends the turn of one who dies."""
    folder = directory / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / SWEEPER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, file_mode(folder))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
