"""How many of the node's slots are taken, the highest number since it was last told to the hub, and who got none."""

import fcntl
import os
from pathlib import Path

from contract.uplink_pb2 import Capacity
from edge.sync.settings import SlotsSection
from edge.sync.workers import refusals

_RUNS_KEPT = 1_000


class SlotWatch:
    """Looks at the slot files of the call workers (edge/call/slots.py) and at what they tell of themselves in the
    folder `running`; nothing where the node serves no calls."""

    def __init__(self, settings: SlotsSection | None, running: Path) -> None:
        self._settings = settings
        self._running = running
        self._peak = 0
        self._refused = 0
        # What each run of a worker has told; those that ran before the agent are counted from here on.
        self._told = refusals(running)

    def now(self) -> Capacity:
        """The slots in use at this moment, which counts for the peak, and the calls refused since `since_last`."""
        if self._settings is None:
            return Capacity()
        used = slots_used(self._settings.directory)
        self._peak = max(self._peak, used)
        self._note_refusals()
        return Capacity(slots=self._settings.capacity, slots_used_peak=used, refused=self._refused)

    def since_last(self) -> Capacity:
        """The highest use and the calls refused for want of a slot since this was asked before."""
        capacity = self.now()
        capacity.slots_used_peak, self._peak = self._peak, 0
        self._refused = 0
        return capacity

    def _note_refusals(self) -> None:
        told = refusals(self._running)
        self._refused += sum(max(0, count - self._told.get(run, 0)) for run, count in told.items())
        # A file that cannot be read now is no new run later.
        gone = {run: count for run, count in self._told.items() if run not in told}
        self._told = dict([*gone.items(), *told.items()][-_RUNS_KEPT:])


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
