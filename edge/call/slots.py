"""The node's capacity: a slot is taken before a call is answered and held until it ends.

A slot is an exclusive `flock` on one of N files that all workers of the node share. Taking it is atomic across
processes, and the kernel gives it back when the holder dies, so `kill -9` of a worker leaks nothing.
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.call.errors import NoCapacityError
from edge.shared_folder import file_mode


class Slot:
    """One call's place on the node; released by `release` or by leaving the `with` block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the place back; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotLedger:
    """All slots of a node: `capacity` files in `directory`, which every worker of the node is given."""

    directory: Path
    capacity: int

    def take(self) -> Slot:
        """Take a free slot or raise NoCapacityError. Never waits."""
        for index in range(self.capacity):
            descriptor = self._try(index)
            if descriptor is not None:
                return Slot(descriptor)
        raise NoCapacityError(f"all {self.capacity} slots are taken")

    def in_use(self) -> int:
        """How many slots are held right now, by any process of the node."""
        free = [descriptor for index in range(self.capacity) if (descriptor := self._try(index)) is not None]
        for descriptor in free:
            os.close(descriptor)
        return self.capacity - len(free)

    def _try(self, index: int) -> int | None:
        self.directory.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.directory / f"{index:04d}", flags, file_mode(self.directory))
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
