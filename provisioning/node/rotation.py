"""Whether this node takes new calls, and how many run.

While /run/borough/cordon exists the workers refuse new calls with 503 before they answer, so that another node takes
them; running calls go on. Its text says who made it. A call holds an exclusive flock on a file of the slots folder as
long as it runs (edge/call/slots.py): the files are the border, this package imports nothing of edge.
"""

import asyncio
import fcntl
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from provisioning.node.errors import DrainError
from provisioning.node.machine import CORDON, CURRENT_BUNDLE, ISOLATED, SLOTS, Machine

LOOK_EVERY_S = 0.25
# The agent's, in the folder of a bundle whose roster cordons this node.
CORDONED_BY_HUB = "cordoned"


class CordonReason(StrEnum):
    """What the cordon file says."""

    UNTESTED = "untested"  # made at boot, or by a role that is not done; goes when the self-test has passed
    DRAINED = "drained"  # an operator's; only he takes it away


@dataclass(frozen=True, slots=True)
class Rotation:
    """One node in and out of the rotation of its region."""

    machine: Machine

    @property
    def cordon(self) -> Path:
        return self.machine.at(CORDON)

    def reason(self) -> CordonReason | None:
        """Why this node is cordoned by itself; None where it is not."""
        try:
            text = self.cordon.read_text(encoding="ascii").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DrainError(f"{self.cordon}: {error.strerror}", hint="Run it as root.") from error
        return CordonReason.DRAINED if text == CordonReason.DRAINED else CordonReason.UNTESTED

    @property
    def is_cordoned_by_hub(self) -> bool:
        """Whether the roster of the running bundle says so."""
        return (self.machine.at(CURRENT_BUNDLE) / CORDONED_BY_HUB).exists()

    @property
    def is_isolated(self) -> bool:
        """Whether this node hears no majority of its siblings; passes by itself."""
        return self.machine.at(ISOLATED).exists()

    def close(self) -> None:
        """Take no new calls from now on. Raises DrainError."""
        fresh = self.cordon.with_name(f".{self.cordon.name}.new")
        try:
            fresh.write_text(f"{CordonReason.DRAINED}\n", encoding="ascii")
            fresh.chmod(0o644)
            fresh.rename(self.cordon)
        except OSError as error:
            raise DrainError(f"{error.filename}: {error.strerror}", hint="Run it as root.") from error

    def open(self, reason: CordonReason | None = None) -> bool:
        """Take new calls again; with a reason only if that is why not. Whether this changed anything.

        Raises DrainError.
        """
        found = self.reason()
        if found is None or (reason is not None and found is not reason):
            return False
        try:
            self.cordon.unlink()
        except OSError as error:
            raise DrainError(f"{error.filename}: {error.strerror}", hint="Run it as root.") from error
        return True

    def running_calls(self) -> int:
        """Slots that workers hold. Each file is looked at alone and at once let go: calls take slots meanwhile."""
        return sum(_is_held(path) for path in self.machine.at(SLOTS).glob("[0-9]*"))

    async def until_empty(self, deadline_s: float) -> int:
        """Wait until no call runs, or for so long; how many run then."""
        try:
            async with asyncio.timeout(deadline_s):
                while self.running_calls() > 0:  # noqa: ASYNC110 - a lock that is let go tells nobody
                    await asyncio.sleep(LOOK_EVERY_S)
        except TimeoutError:
            pass
        return self.running_calls()


def _is_held(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
