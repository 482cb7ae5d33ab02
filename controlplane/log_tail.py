"""Follows a text file that another process writes, over its rotation, and says what it could not read."""

import asyncio
import os
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path

LOOK_EVERY_S = 1.0
# Who writes ten thousand lines a second must not fill our memory; the rest is read at the next look.
READ_AT_MOST_BYTES = 4 * 1024 * 1024
LONGEST_LINE_BYTES = 64 * 1024


class LogTail:
    """`on_line` is called with each whole line; `on_skipped` with the bytes that were rotated away before they could be
    read, or that were no line."""

    def __init__(self, path: Path, on_line: Callable[[str], None], on_skipped: Callable[[int], None]) -> None:
        self._path = path
        self._on_line = on_line
        self._on_skipped = on_skipped
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
            self.close()

    def look(self) -> None:
        """Read what was written since the last look, at most so much; a rotated file is read to its end first."""
        if self._file is None:
            self._open()
        left = READ_AT_MOST_BYTES
        while self._file is not None and left > 0:
            piece = self._file.read(left)
            left -= len(piece)
            self._take(piece)
            if piece:
                continue
            if not self._was_replaced(self._file):
                return
            self._skip(len(self._rest) + self._rotated_unread(self._file))
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
        except FileNotFoundError:  # its writer has not begun it yet
            self._file = None

    def _take(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._on_line(line.decode(errors="replace"))
        if len(self._rest) > LONGEST_LINE_BYTES:
            self._skip(len(self._rest))
            self._rest = b""

    def _skip(self, skipped_bytes: int) -> None:
        if skipped_bytes:
            self._on_skipped(skipped_bytes)

    def _was_replaced(self, file: BufferedReader) -> bool:
        try:
            newest = self._path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(file.fileno())
        return (newest.st_ino, newest.st_dev) != (mine.st_ino, mine.st_dev) or newest.st_size < file.tell()

    def _rotated_unread(self, file: BufferedReader) -> int:
        """The bytes of files that were begun and rotated away since this one; those that are deleted count for none."""
        mine, unread = os.fstat(file.fileno()), 0
        for path in self._path.parent.glob(f"{self._path.name}.*"):
            try:
                other = path.stat()
            except FileNotFoundError:
                continue
            if other.st_ino != mine.st_ino and other.st_mtime_ns > mine.st_mtime_ns:
                unread += other.st_size
        return unread
