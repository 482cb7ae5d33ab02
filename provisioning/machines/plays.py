"""Runs a playbook on machines and says what came of it, host by host."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provisioning.machines.errors import MachinePlayError, MachineUnableError

REPOSITORY = Path(__file__).resolve().parents[2]
ANSIBLE = REPOSITORY / "ansible"
PLAY_TIMEOUT_S = 2400.0
OUTPUT_TAIL_LINES = 60
_RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)\s+"
    r"failed=(?P<failed>\d+)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlayOutcome:
    """What a run of a playbook did. Counts of tasks and seconds are by host."""

    output: str
    exit_code: int
    changed: Mapping[str, int]
    failed: Mapping[str, int]
    seconds: Mapping[str, float]

    def expect_success(self) -> "PlayOutcome":
        """Itself. Raises MachinePlayError with the end of the output."""
        if self.exit_code != 0:
            tail = "\n".join(self.output.splitlines()[-OUTPUT_TAIL_LINES:])
            raise MachinePlayError(f"the playbook ended with exit code {self.exit_code}:\n{tail}")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """Runs playbooks of ansible/playbooks with one inventory; all output is kept in `log`."""

    inventory: Path
    log: Path

    def play(self, playbook: str, *options: str) -> PlayOutcome:
        """Run `<playbook>.yml`. A failed run is an outcome too; raises MachineUnableError without ansible."""
        with tempfile.NamedTemporaryFile(suffix=".json") as timing:
            argv = [
                str(Path(sys.executable).with_name("ansible-playbook")),
                "-i",
                str(self.inventory),
                f"playbooks/{playbook}.yml",
                *options,
            ]
            environment = {**os.environ, "BOROUGH_TIMING_FILE": timing.name, "ANSIBLE_NOCOLOR": "1"}
            try:
                done = subprocess.run(
                    argv,
                    cwd=ANSIBLE,
                    env=environment,
                    check=False,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    timeout=PLAY_TIMEOUT_S,
                )
            except FileNotFoundError:
                raise MachineUnableError(f"there is no {argv[0]}", hint="`make setup` installs it.") from None
            seconds = Path(timing.name).read_text(encoding="utf-8")
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(argv)}\n{done.stdout}\n")
        recaps = list(_RECAP.finditer(done.stdout))
        return PlayOutcome(
            output=done.stdout,
            exit_code=done.returncode,
            changed={recap["host"]: int(recap["changed"]) for recap in recaps},
            failed={recap["host"]: int(recap["failed"]) + int(recap["unreachable"]) for recap in recaps},
            seconds=json.loads(seconds)["hosts_s"] if seconds else {},
        )
