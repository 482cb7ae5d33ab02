"""How the power of a machine is cut: for real where the machine is one of `borough machines`, else from inside."""

import asyncio
import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.drills import cuts
from bench.drills.errors import DrillHandError
from bench.drills.ssh import SshMachine
from provisioning.machines.errors import MachinesError, MachineUnknownError
from provisioning.machines.rehearsal import Rehearsal

BOOT_WITHIN_S = 150.0
OFF_WITHIN_S = 60.0


class PowerSwitch(Protocol):
    """Takes a machine's power away and gives it back."""

    async def cut(self, machine: SshMachine, ends_after_s: float) -> dt.datetime:
        """Returns when it was cut, at the earliest. Raises DrillHandError."""

    async def restore(self, machine: SshMachine) -> None:
        """Nothing is done to a machine that has it. Raises DrillHandError."""


class InsidePower:
    """Over SSH: the machine is silenced, then everything of ours on it is killed."""

    async def cut(self, machine: SshMachine, ends_after_s: float) -> dt.datetime:
        at = dt.datetime.now(dt.UTC)
        await machine.shell(cuts.power_off(ends_after_s), within_s=OFF_WITHIN_S)
        return at

    async def restore(self, machine: SshMachine) -> None:
        await machine.shell(cuts.put_back(f"{cuts.HEAL}; {cuts.START_ALL}"), within_s=BOOT_WITHIN_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalPower:
    """Machines inside this one: their first process is killed, and they boot again."""

    rehearsal: Rehearsal

    async def cut(self, machine: SshMachine, ends_after_s: float) -> dt.datetime:
        del ends_after_s  # who drills is on the machine that they are in
        at = dt.datetime.now(dt.UTC)
        await _done(self.rehearsal.machine(machine.name).cut_power)
        return at

    async def restore(self, machine: SshMachine) -> None:
        await _done(self.rehearsal.machine(machine.name).start)


async def _done(what: Callable[[], None]) -> None:
    try:
        await asyncio.to_thread(what)
    except MachinesError as error:
        raise DrillHandError(str(error)) from error


def power_of(inventory: Path) -> PowerSwitch:
    """The switch for the machines of an inventory: `borough machines` keeps its own beside them."""
    rehearsal = Rehearsal(inventory.resolve().parent)
    try:
        rehearsal.machines()
    except MachineUnknownError:
        return InsidePower()
    return RehearsalPower(rehearsal=rehearsal)
