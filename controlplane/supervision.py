"""What systemd is told of this process (sd_notify(3)): that it serves, what it does, that it lives, that it ends.

The sign of life comes from the event loop, twice in the unit's WatchdogSec: a loop that hangs is killed and started
again. Outside of systemd nothing is sent. A sibling of edge/observability/supervision.py: the packages share no code.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from sdnotify import SystemdNotifier  # type: ignore[import-untyped]

# How often the status line is brought up to date where the unit has no watchdog.
DESCRIBE_EVERY_S = 5.0
MICROSECONDS = 1_000_000


def pulse_interval_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Half of the time that the watchdog allows, None where it does not watch this process."""
    allowed_us = environment.get("WATCHDOG_USEC", "")
    watched = environment.get("WATCHDOG_PID", str(pid))
    if not allowed_us.isdecimal() or int(allowed_us) == 0 or watched != str(pid):
        return None
    return int(allowed_us) / MICROSECONDS / 2


class Supervision:
    """Tells systemd of this process while the context is open, which needs a running loop.

    `describe` is the status line once it serves, asked at every pulse; ASCII.
    """

    def __init__(self, *, describe: Callable[[], str] = lambda: "serving") -> None:
        self._describe = describe
        self._is_ready = False
        self._told = ""
        self._notifier: SystemdNotifier | None = None
        self._next: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        if "NOTIFY_SOCKET" in os.environ:
            self._notifier = SystemdNotifier()
            self._pulse(asyncio.get_running_loop(), pulse_interval_s(os.environ, os.getpid()))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._next is not None:
            self._next.cancel()
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()
        self._notifier = None

    def starting(self, status: str) -> None:
        """Say what the start waits for."""
        self._tell_status(status)

    def ready(self) -> None:
        """Say that this process serves now."""
        self._is_ready = True
        self._tell("READY=1")
        self._tell_status(self._describe())

    def stopping(self, status: str) -> None:
        """Say that this process ends, and what it still does."""
        self._is_ready = False
        self._tell("STOPPING=1")
        self._tell_status(status)

    def _pulse(self, loop: asyncio.AbstractEventLoop, watched_s: float | None) -> None:
        if watched_s is not None:
            self._tell("WATCHDOG=1")
        if self._is_ready:
            self._tell_status(self._describe())
        self._next = loop.call_later(watched_s or DESCRIBE_EVERY_S, self._pulse, loop, watched_s)

    def _tell_status(self, status: str) -> None:
        if status != self._told:
            self._told = status
            self._tell(f"STATUS={status}")

    def _tell(self, message: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(message)
