"""`python -m provisioning.silence --page URL --pid-file FILE --give-up-s N`: kills a program that has fallen silent.

For a program that runs in a unit of its own, because its root is another, and gives systemd no sign of life (Asterisk).
When it has answered nothing for so long it is killed, which needs no more than to be the same user; its unit starts it
again, and this one with it.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from sdnotify import SystemdNotifier  # type: ignore[import-untyped]

from provisioning.pulse import problem_of

LOOK_EVERY_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Whom to look at: a page on which any answer will do, and the process to kill after `give_up_s` without one."""

    page: SplitResult
    pid_file: Path
    give_up_s: float


async def watch(order: Watch) -> None:
    """Look until the program was silent for too long, or this process is told to stop."""
    loop, stop, notifier = asyncio.get_running_loop(), asyncio.Event(), SystemdNotifier()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    notifier.notify("READY=1")
    answered_s = loop.time()
    while not stop.is_set():
        problem = await problem_of(order.page, any_status=True)
        if problem is None:
            answered_s = loop.time()
        elif loop.time() - answered_s > order.give_up_s:
            _kill(order, problem)
            return
        notifier.notify(f"WATCHDOG=1\nSTATUS={problem or 'answers'}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await stop.wait()


def _kill(order: Watch, problem: str) -> None:
    sys.stderr.write(f"no answer for {order.give_up_s:.0f} s ({problem}): killed\n")
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(order.pid_file.read_text(encoding="ascii")), signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m provisioning.silence", description=__doc__)
    parser.add_argument("--page", type=urlsplit, required=True, help="page that the program answers while it lives")
    parser.add_argument("--pid-file", type=Path, required=True, help="where the program wrote its process id")
    parser.add_argument("--give-up-s", type=float, required=True, help="silence after which it is killed")
    found = parser.parse_args()
    asyncio.run(watch(Watch(page=found.page, pid_file=found.pid_file, give_up_s=found.give_up_s)))


if __name__ == "__main__":
    main()
