"""Prints, after a run, how long each machine and the slowest tasks took. Knows nothing of what the tasks do."""

import json
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: timing
type: aggregate
short_description: seconds by machine and by task
description:
  - Prints the seconds that each machine was busy and the slowest tasks.
  - Writes all of it as JSON to the file that BOROUGH_TIMING_FILE names.
"""

TIMING_FILE_VARIABLE = "BOROUGH_TIMING_FILE"
SLOWEST_SHOWN = 12


class CallbackModule(CallbackBase):
    """Measures from a task's start on a host to its result there."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "timing"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._started_s: dict[tuple[str, str], float] = {}
        # First start and last end of a host's tasks: what somebody who waits for it sees.
        self._first_s: dict[str, float] = {}
        self._last_s: dict[str, float] = {}
        self._task_s: defaultdict[str, dict[str, float]] = defaultdict(dict)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        now = time.monotonic()
        self._started_s[host.get_name(), task._uuid] = now  # noqa: SLF001 - as Ansible's own profile_tasks does
        self._first_s.setdefault(host.get_name(), now)

    def _ended(self, result: Any) -> None:
        host, task = result._host.get_name(), result._task  # noqa: SLF001
        started = self._started_s.pop((host, task._uuid), None)  # noqa: SLF001
        if started is None:
            return
        now = time.monotonic()
        self._last_s[host] = now
        by_host = self._task_s[task.get_name()]
        by_host[host] = by_host.get(host, 0.0) + now - started

    def v2_runner_on_ok(self, result: Any) -> None:
        self._ended(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002
        self._ended(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._ended(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._ended(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        wall_s = {host: self._last_s.get(host, first) - first for host, first in self._first_s.items()}
        slowest = sorted(((max(by_host.values()), name) for name, by_host in self._task_s.items()), reverse=True)
        self._display.banner("TIMING")
        for host in sorted(wall_s):
            self._display.display(f"{host:<24} {wall_s[host]:8.1f} s")
        for seconds, name in slowest[:SLOWEST_SHOWN]:
            self._display.display(f"  {seconds:8.1f} s  {name}")
        path = os.environ.get(TIMING_FILE_VARIABLE)
        if path:
            document = {"hosts_s": wall_s, "changed": dict(stats.changed), "tasks_s": self._task_s}
            Path(path).write_text(json.dumps(document, indent=1), encoding="utf-8")
