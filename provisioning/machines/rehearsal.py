"""All machines of a rehearsal: made, listed and cleared together. The plan is kept beside them as plan.json."""

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from provisioning.machines.bridge import ensure_bridge, remove_bridge
from provisioning.machines.errors import MachineUnknownError
from provisioning.machines.machine import Machine
from provisioning.machines.plan import MachinesPlan


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """The folder in which machines live."""

    directory: Path

    @property
    def key(self) -> Path:
        """The private key that opens every machine."""
        return self.directory / "ssh"

    def up(self, plan: MachinesPlan, root: Path) -> list[Machine]:
        """Boot every machine of the plan; those that run stay as they are.

        Raises MachineStartError, MachineUnableError.
        """
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not self.key.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        (self.directory / "plan.json").write_text(
            json.dumps({"plan": asdict(plan), "root": str(root)}), encoding="utf-8"
        )
        ensure_bridge(plan)
        machines = self.machines()
        for machine in machines:
            machine.start()
        return machines

    def plan(self) -> MachinesPlan:
        """Raises MachineUnknownError when there are no machines."""
        return MachinesPlan(**self._kept()["plan"])

    def machines(self) -> list[Machine]:
        """Every machine, running or not. Raises MachineUnknownError when there are none."""
        plan, root = self.plan(), Path(self._kept()["root"])
        return [
            Machine(place=place, plan=plan, directory=self.directory / place.name, root=root, key=self.key)
            for place in plan.places
        ]

    def machine(self, name: str) -> Machine:
        """Raises MachineUnknownError."""
        machines = {machine.place.name: machine for machine in self.machines()}
        if name not in machines:
            raise MachineUnknownError(f"there is no machine {name}; there are: {', '.join(machines)}")
        return machines[name]

    def down(self) -> None:
        """Destroy every machine and the bridge; nothing is left but the key."""
        machines = self.machines()
        for machine in machines:
            machine.destroy()
        remove_bridge(machines[0].plan)
        (self.directory / "plan.json").unlink()

    def _kept(self) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = json.loads((self.directory / "plan.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise MachineUnknownError(
                f"there are no machines in {self.directory}", hint="`borough machines up` makes them."
            ) from None
        return kept
