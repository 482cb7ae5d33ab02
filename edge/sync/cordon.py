"""Whether this node refuses new calls: its operator cordoned it, or the roster of the applied bundle did.

Two files say so, each by being there: the operator's (`slots.cordon_file`), and `cordoned` in the current bundle's
folder, which comes and goes with the bundle. They are looked at when it matters, by name: a call that comes the moment
after the file was made is refused.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edge.sync.membership import CORDONED_FILE


@dataclass(frozen=True, slots=True)
class Cordon:
    """Up while any of the files is there."""

    files: tuple[Path, ...] = ()

    @classmethod
    def of(cls, own: Path | None, sync: Path | None) -> Self:
        """By the operator's file and the sync folder, where the node has them."""
        by_roster = sync / "current" / CORDONED_FILE if sync is not None else None
        return cls(tuple(file for file in (own, by_roster) if file is not None))

    @property
    def is_up(self) -> bool:
        """Whether new calls are refused right now."""
        return any(os.path.lexists(file) for file in self.files)
