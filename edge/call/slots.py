"""The node's capacity: a slot is taken before a call is answered and held until it ends.

A slot is an exclusive `flock` on one of N files that all workers of the node share. Taking it is atomic across
processes, and the kernel gives it back when the holder dies, so `kill -9` of a worker leaks nothing.

The holder writes its call into the file and empties it on release. A free file that still names a call is that of a
dead worker's: who adopts the call takes this very slot again, and new calls stay away from it for `RESERVED_S`.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from edge.call.errors import NoCapacityError
from edge.shared_folder import file_mode

# A sibling adopts within a second, a worker that was alone is back in ten; either waits 15 s for a slow Asterisk.
RESERVED_S = 30.0
LONGEST_MARK_BYTES = 200


class Slot:
    """One call's place on the node; released by `release` or by leaving the `with` block."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the place back; a second call does nothing."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
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
    now: Callable[[], float] = time.monotonic
    _reserved_since: dict[int, tuple[bytes, float]] = field(default_factory=dict)

    def take(self, call_id: str = "") -> Slot:
        """Take a free slot, or raise NoCapacityError. Never waits."""
        for index in range(self.capacity):
            descriptor = self._try(index)
            if descriptor is None:
                continue
            if self._is_free_for(call_id, index, descriptor):
                return self._mark(descriptor, call_id)
            os.close(descriptor)
        raise NoCapacityError(f"all {self.capacity} slots are taken")

    def retake(self, call_id: str) -> Slot:
        """Take the slot that a dead worker held for this call, or any free one. Raises NoCapacityError."""
        for index in range(self.capacity):
            descriptor = self._try(index)
            if descriptor is None:
                continue
            if _marked(descriptor) == call_id.encode():
                return self._mark(descriptor, call_id)
            os.close(descriptor)
        return self.take(call_id)

    def in_use(self) -> int:
        """How many slots are held right now, by any process of the node."""
        return sum(self._is_held(index) for index in range(self.capacity))

    def _is_held(self, index: int) -> bool:
        descriptor = self._try(index)
        if descriptor is None:
            return True
        # At once: who wants a slot meanwhile must not find it taken.
        os.close(descriptor)
        return False

    def forget_dead(self) -> None:
        """End all reservations: what could be adopted was."""
        self._reserved_since.clear()
        for index in range(self.capacity):
            descriptor = self._try(index)
            if descriptor is not None:
                Slot(descriptor).release()

    def _is_free_for(self, call_id: str, index: int, descriptor: int) -> bool:
        mark = _marked(descriptor)
        if mark in {b"", call_id.encode()}:
            return True
        seen, since = self._reserved_since.get(index, (b"", 0.0))
        if seen != mark:
            self._reserved_since[index] = (mark, self.now())
            return False
        return self.now() - since > RESERVED_S

    @staticmethod
    def _mark(descriptor: int, call_id: str) -> Slot:
        os.ftruncate(descriptor, 0)
        # A full disk costs the reservation, not the call.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, call_id.encode()[:LONGEST_MARK_BYTES], 0)
        return Slot(descriptor)

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


def _marked(descriptor: int) -> bytes:
    return os.pread(descriptor, LONGEST_MARK_BYTES, 0)
