"""Drills that come round by themselves: a systemd timer and its service, on the machine that drills."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.drills.errors import DrillHandError

UNITS = Path("/etc/systemd/system")
RUNNING = Path("/run/systemd/system")
# The first Sunday of a month, when few people call.
MONTHLY = "Sun *-*-01..07 03:00:00"
# With calls, recordings and their judges.
LONGEST_S = 4 * 3600
COMMAND_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """`command` is run at each time of `calendar` (systemd.time(7))."""

    kind: str
    region: str
    command: Sequence[str]
    calendar: str = MONTHLY
    # How long rounds are begun; 0: as many as were asked for.
    for_s: float = 0.0

    @property
    def unit(self) -> str:
        return f"borough-drill-{self.region}-{self.kind}"

    def files(self) -> Mapping[str, str]:
        """Both units, by file name."""
        what = f"Drill: {self.kind} in {self.region}"
        words = " ".join(_quoted(word) for word in self.command)
        return {
            f"{self.unit}.service": (
                f"[Unit]\nDescription={what}\n\n[Service]\nType=oneshot\nExecStart={words}\n"
                # A drill that is stopped puts back what it took away.
                f"TimeoutStartSec={LONGEST_S + self.for_s:.0f}\nTimeoutStopSec=300\n"
            ),
            f"{self.unit}.timer": (
                f"[Unit]\nDescription={what}\n\n[Timer]\nOnCalendar={self.calendar}\nPersistent=no\n\n"
                "[Install]\nWantedBy=timers.target\n"
            ),
        }

    def install(self, directory: Path = UNITS) -> None:
        """Write the units and start the timer. Raises DrillHandError."""
        for name, text in self.files().items():
            (directory / name).write_text(text, encoding="utf-8")
        _systemctl("daemon-reload")
        _systemctl("enable", "--now", f"{self.unit}.timer")


def is_possible() -> bool:
    """Whether systemd runs this machine."""
    return RUNNING.exists()


def next_runs() -> list[dict[str, Any]]:
    """The timers of drills on this machine and when they come next (epoch microseconds)."""
    if not is_possible():
        return []
    listed: list[dict[str, Any]] = json.loads(_systemctl("list-timers", "--all", "--output=json", "borough-drill-*"))
    return [{"unit": timer["unit"], "next_us": timer["next"]} for timer in listed]


def _systemctl(*words: str) -> str:
    try:
        done = subprocess.run(
            ["systemctl", *words], check=True, capture_output=True, text=True, timeout=COMMAND_WITHIN_S
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise DrillHandError(f"systemctl {' '.join(words)}: {error}") from error
    return done.stdout


def _quoted(word: str) -> str:
    """For ExecStart= (systemd.service(5)): $ and % are systemd's own."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$").replace("%", "%%")
    return f'"{escaped}"'
