"""Follows a text file that another process writes, over its rotation."""

import asyncio
import os
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

LOOK_EVERY_S = 1.0
# Who writes ten thousand lines a second must not fill our memory; the rest is read at the next look.
READ_AT_MOST_BYTES = 4 * 1024 * 1024


class LogTail:
    """`on_line` is called with each whole line that is written after `run` began."""

    def __init__(self, path: Path, on_line: Callable[[str], None]) -> None:
        self._path = path
        self._on_line = on_line
        self._file: BufferedReader | None = None
        self._rest = b""

    async def run(self) -> None:
        """Look every second, until cancelled; what stands in the file already is passed over."""
        self._open()
        if self._file is not None:
            self._file.seek(0, os.SEEK_END)
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                self.look()
        finally:
            self._close()

    def look(self) -> None:
        """Read what was written since the last look."""
        if self._file is None:
            self._open()
        while self._file is not None:
            *lines, self._rest = (self._rest + self._file.read(READ_AT_MOST_BYTES)).split(b"\n")
            for line in lines:
                self._on_line(line.decode(errors="replace"))
            if not self._was_replaced(self._file):
                return
            self._close()
            self._open()

    def _open(self) -> None:
        try:
            self._file = self._path.open("rb")
        except FileNotFoundError:  # its writer has not begun it yet
            self._file = None

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._rest = None, b""

    def _was_replaced(self, file: BufferedReader) -> bool:
        try:
            newest = self._path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(file.fileno())
        return (newest.st_ino, newest.st_dev) != (mine.st_ino, mine.st_dev) or newest.st_size < file.tell()
