"""How many of the node's slots are taken, and the highest number since it was last told to the hub."""

import fcntl
import os
from pathlib import Path

from contract.uplink_pb2 import Capacity
from edge.sync.settings import SlotsSection


class SlotWatch:
    """Looks at the slot files of the call workers (edge/call/slots.py); None where the node serves no calls."""

    def __init__(self, settings: SlotsSection | None) -> None:
        self._settings = settings
        self._peak = 0

    def now(self) -> Capacity:
        """The slots in use at this moment; counts for the peak."""
        if self._settings is None:
            return Capacity()
        used = slots_used(self._settings.directory)
        self._peak = max(self._peak, used)
        return Capacity(slots=self._settings.capacity, slots_used_peak=used)

    def since_last(self) -> Capacity:
        """The highest use since this was asked before."""
        capacity = self.now()
        capacity.slots_used_peak, self._peak = self._peak, 0
        return capacity


def slots_used(directory: Path) -> int:
    """How many slots the workers hold. Each file is looked at alone and at once let go: calls take slots meanwhile."""
    return sum(_is_held(path) for path in directory.glob("[0-9]*"))


def _is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
