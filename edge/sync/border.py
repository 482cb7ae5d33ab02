"""Counts who was turned away at the region's border: reads the log of this node's nats-server as it grows.

The server closes or ignores what is not allowed and says so in its log only; nothing there may go unseen. Follows the
log over its rotation. Knows nothing of what was tried: the parser drops it (contract/nats_log.py).
"""

import os
from collections import Counter
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

import structlog
from watchfiles import awatch

from contract.nats_log import RefusalKind, refusal_of

log = structlog.get_logger(__name__)

LOOK_EVERY_MS = 1000
SETTLE_MS = 20
# Somebody who tries ten thousand times a second must not fill our memory; the rest is read at the next look.
READ_AT_MOST_BYTES = 4 * 1024 * 1024


class BorderWatch:
    """Tails one log file; `on_refusal` is called once for each attempt that was refused since it began."""

    def __init__(self, server_log: Path, on_refusal: Callable[[RefusalKind], None]) -> None:
        self._path = server_log
        self._on_refusal = on_refusal
        self._file: BufferedReader | None = None
        self._rest = b""
        self.refused: Counter[RefusalKind] = Counter()

    @property
    def total(self) -> int:
        """Attempts refused since the watch began."""
        return self.refused.total()

    async def run(self) -> None:
        """Follow the log until cancelled; what stands in it already is not counted."""
        self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)
        try:
            async for _ in awatch(
                self._path.parent,
                watch_filter=lambda _, path: Path(path).name.startswith(self._path.name),
                debounce=10 * SETTLE_MS,
                step=SETTLE_MS,
                rust_timeout=LOOK_EVERY_MS,
                yield_on_timeout=True,
                recursive=False,
            ):
                self.look()
        finally:
            self.close()

    def look(self) -> None:
        """Count what was written since the last look."""
        if self._file is None:
            self._open()
        while self._file is not None:
            self._read(self._file)
            if not self._was_rotated(self._file):
                return
            self.close()
            self._open()

    def close(self) -> None:
        """Let go of the file; the next look begins at the start of the log."""
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def _open(self) -> None:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:
            # The server has not begun its log yet.
            self._file = None

    def _read(self, file: BufferedReader) -> None:
        *lines, self._rest = (self._rest + file.read(READ_AT_MOST_BYTES)).split(b"\n")
        for line in lines:
            refusal = refusal_of(line.decode(errors="replace"))
            if refusal is not None:
                self.refused[refusal.kind] += 1
                log.warning("border_refused", kind=str(refusal.kind), connection=refusal.connection)
                self._on_refusal(refusal.kind)

    def _was_rotated(self, file: BufferedReader) -> bool:
        try:
            newest = self._path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(file.fileno())
        return (newest.st_ino, newest.st_dev) != (mine.st_ino, mine.st_dev) or newest.st_size < file.tell()
