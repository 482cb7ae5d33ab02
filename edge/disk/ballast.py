"""Room that is held back for the records: a file that is given up when the disk is full, and made again later."""

import os
from dataclasses import dataclass
from pathlib import Path

from edge.disk.levels import MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Ballast:
    """One file of `size_bytes`; one process of a node keeps it (the agent). 64 MiB hold 50,000 turns."""

    path: Path
    size_bytes: int = 64 * MIB

    @property
    def is_held(self) -> bool:
        """Whether the room is held back now."""
        try:
            return self.path.stat().st_size == self.size_bytes
        except FileNotFoundError:
            return False

    def hold(self) -> None:
        """Take the room. Raises OSError, and takes nothing, where there is not enough."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.size_bytes)
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give the room to the records."""
        self.path.unlink(missing_ok=True)
