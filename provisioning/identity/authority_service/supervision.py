"""What systemd is told of the authority (sd_notify(3)): that it serves, that its loop lives, that it ends.

A sibling of edge/observability/supervision.py and controlplane/supervision.py: the packages share no code.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator, Mapping

from sdnotify import SystemdNotifier  # type: ignore[import-untyped]

MICROSECONDS = 1_000_000


def pulse_interval_s(environment: Mapping[str, str], pid: int) -> float | None:
    """Half of the time that the watchdog allows, None where it does not watch this process."""
    allowed_us = environment.get("WATCHDOG_USEC", "")
    watched = environment.get("WATCHDOG_PID", str(pid))
    if not allowed_us.isdecimal() or int(allowed_us) == 0 or watched != str(pid):
        return None
    return int(allowed_us) / MICROSECONDS / 2


@contextlib.contextmanager
def serving(status: str) -> Iterator[None]:
    """Entered once it serves, left when it ends; needs a running loop. Outside of systemd nothing is sent."""
    if "NOTIFY_SOCKET" not in os.environ:
        yield
        return
    notifier = SystemdNotifier()
    loop = asyncio.get_running_loop()
    interval_s = pulse_interval_s(os.environ, os.getpid())
    waiting: list[asyncio.TimerHandle] = []

    def pulse(every_s: float) -> None:
        notifier.notify("WATCHDOG=1")
        waiting[:] = [loop.call_later(every_s, pulse, every_s)]

    try:
        notifier.notify(f"READY=1\nSTATUS={status}")
        if interval_s is not None:
            pulse(interval_s)
        yield
    finally:
        for timer in waiting:
            timer.cancel()
        notifier.notify("STOPPING=1")
        if notifier.socket is not None:
            notifier.socket.close()
