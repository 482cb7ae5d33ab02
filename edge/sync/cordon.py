"""Whether this node refuses new calls: its operator cordoned it, the applied bundle's roster did, or it is isolated.

Three files say so, each by being there: the operator's (`slots.cordon_file`); `cordoned` in the current bundle's
folder, which comes and goes with the bundle; and `isolated` in the sync folder, made by the agent while the node is on
a side of its region that cannot decide (isolation.py). They are looked at when it matters, by name: a call that comes
the moment after the file was made is refused.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edge.sync.membership import CORDONED_FILE

ISOLATED_FILE = "isolated"


@dataclass(frozen=True, slots=True)
class Cordon:
    """Up while any of the files is there."""

    files: tuple[Path, ...] = ()

    @classmethod
    def of(cls, own: Path | None, sync: Path | None) -> Self:
        """By the operator's file and the sync folder, where the node has them."""
        in_sync = (sync / "current" / CORDONED_FILE, sync / ISOLATED_FILE) if sync is not None else ()
        return cls((*((own,) if own is not None else ()), *in_sync))

    @property
    def is_up(self) -> bool:
        """Whether new calls are refused right now."""
        return any(os.path.lexists(file) for file in self.files)
