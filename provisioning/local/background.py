"""Starts and stops the supervisor of a local region as a background process."""

import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

from provisioning.local.errors import ServiceStartError
from provisioning.local.layout import StateLayout, read_region_file
from provisioning.local.region import RegionOptions

START_WITHIN_S = 700.0
STOP_WITHIN_S = 90.0
LOOK_EVERY_S = 0.1
LOG_TAIL_LINES = 15


def start_in_background(options: RegionOptions) -> dict[str, Any]:
    """Start a supervisor that outlives this process; returns region.json. Raises ServiceStartError."""
    layout = options.layout
    argv = [sys.executable, "-m", "provisioning.local", "--state", str(layout.root), "--tenants", str(options.tenants)]
    argv += ["--workers", str(options.workers), "--capacity", str(options.capacity)]
    argv += [] if options.sip else ["--no-sip"]
    layout.supervisor_log.parent.mkdir(parents=True, exist_ok=True)
    with layout.supervisor_log.open("wb") as log:
        supervisor = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/"
        )
    deadline = time.monotonic() + START_WITHIN_S
    while time.monotonic() < deadline:
        if supervisor.poll() is not None:
            break
        if layout.region_file.exists():
            region = read_region_file(layout)
            if region["supervisor_pid"] == supervisor.pid:
                return region
        time.sleep(LOOK_EVERY_S)
    supervisor.terminate()
    lines = layout.supervisor_log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:]
    raise ServiceStartError(f"the region did not start; the end of {layout.supervisor_log}:\n" + "\n".join(lines))


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
