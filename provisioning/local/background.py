"""Starts and stops the supervisor of a local region as a background process."""

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from provisioning.local.errors import ServiceStartError
from provisioning.local.layout import StateLayout, read_region_file
from provisioning.local.machine import MachineOptions

START_WITHIN_S = 700.0
STOP_WITHIN_S = 90.0
LOOK_EVERY_S = 0.1
LOG_TAIL_LINES = 15


def start_in_background(options: MachineOptions) -> dict[str, Any]:
    """Start a supervisor that outlives this process; returns region.json. Raises ServiceStartError."""
    layout = options.layout
    argv = [sys.executable, "-m", "provisioning.local", "--state", str(layout.root), "--regions", options.regions]
    argv += ["--tenants", str(options.tenants)]
    argv += ["--workers", str(options.workers), "--capacity", str(options.capacity)]
    argv += [] if options.sip else ["--no-sip"]
    argv += [] if options.hub else ["--no-hub"]
    layout.supervisor_log.parent.mkdir(parents=True, exist_ok=True)
    supervisor = _spawn(argv, layout.supervisor_log)
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline and os.waitpid(supervisor, os.WNOHANG) == (0, 0):
        if layout.region_file.exists():
            region = read_region_file(layout)
            if region["supervisor_pid"] == supervisor:
                return region
        time.sleep(LOOK_EVERY_S)
    with contextlib.suppress(ProcessLookupError):
        os.kill(supervisor, signal.SIGTERM)
    lines = layout.supervisor_log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    raise ServiceStartError(f"the region did not start; the end of {layout.supervisor_log}:\n" + "\n".join(lines))


def _spawn(argv: list[str], log: Path) -> int:
    """Start a process in a session of its own; it may outlive us, which `subprocess.Popen` takes for a mistake."""
    writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), writing, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(argv[0], argv, os.environ, file_actions=actions, setsid=True)


def stop_background(layout: StateLayout) -> None:
    """Stop the supervisor and all it started; returns when everything is gone. Raises NotRunningError."""
    pid = int(read_region_file(layout)["supervisor_pid"])
    try:
        supervisor = os.pidfd_open(pid)
    except ProcessLookupError:
        layout.region_file.unlink(missing_ok=True)
        return
    try:
        signal.pidfd_send_signal(supervisor, signal.SIGTERM)
        # A pidfd becomes readable when its process has ended.
        select.select([supervisor], [], [], STOP_WITHIN_S)
    finally:
        os.close(supervisor)
