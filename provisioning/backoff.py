"""`python -m provisioning.backoff`: services that serve again get the shortest pause before their next restart back.

systemd lengthens that pause (`RestartSteps=`) with every restart since somebody started the unit by hand, however long
it served in between: a service that fails once a month would be away for half a minute each time. Run every minute by
`borough-backoff.timer`. Standard library only: every machine has it beside services of its own.
"""

import subprocess
import time

SERVED_FOR_S = 60.0
OURS = "borough-*.service"
ACTIVE_SINCE_US = "ActiveEnterTimestampMonotonic"
PROPERTIES = ("Id", "ActiveState", "NRestarts", ACTIVE_SINCE_US)
COMMAND_TIMEOUT_S = 15.0


def served_again(shown: str, now_us: int) -> list[str]:
    """Units that were restarted and have served for a minute since. `shown`: what `systemctl show` prints of them;
    `now_us`: the monotonic clock."""
    units = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n") if block.strip()]
    return [
        unit["Id"]
        for unit in units
        if unit["ActiveState"] == "active"
        and int(unit.get("NRestarts", 0)) > 0
        and now_us - int(unit[ACTIVE_SINCE_US]) >= SERVED_FOR_S * 1_000_000
    ]


def main() -> None:
    shown = _systemctl("show", f"--property={','.join(PROPERTIES)}", OURS)
    if units := served_again(shown, time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000):
        # Beside the start limit it resets the count of restarts, which nothing else does while a unit runs.
        _systemctl("reset-failed", *units)
        print("serve again:", *units)  # noqa: T201 - the journal


def _systemctl(*arguments: str) -> str:
    """What it prints. Raises CalledProcessError and TimeoutExpired."""
    done = subprocess.run(
        ["systemctl", *arguments], check=True, stdout=subprocess.PIPE, text=True, timeout=COMMAND_TIMEOUT_S
    )
    return done.stdout


if __name__ == "__main__":
    main()
