"""`python -m provisioning.pulse --health URL -- PROGRAM ARGUMENT...`: runs a program that tells systemd nothing.

In its place this process says that it serves, once its health page says so, and gives a sign of life for as long as
the page is answered: a program that hangs is killed by the unit's watchdog and started again. SIGHUP is passed on.
SIGTERM: the program is asked to drain, if it knows a signal for that, and then to end. This process ends with the
program and its status; should it be killed, the unit's KillMode takes the program along. Standard library only, for it
lives beside every nats-server.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from sdnotify import SystemdNotifier  # type: ignore[import-untyped]

PROBE_WITHIN_S = 2.0
STARTING_EVERY_S = 0.2
PULSES_PER_WATCHDOG = 3
# Where the unit has no watchdog, health is asked all the same.
DEFAULT_EVERY_S = 5.0
STOP_WITHIN_S = 15.0
SIGNALLED = 128
WELL = 200
MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run and how to see that it lives. `drain_signal` comes `drain_s` before SIGTERM."""

    argv: Sequence[str]
    health: SplitResult
    drain_signal: signal.Signals | None = None
    drain_s: float = 0.0


async def run(order: Order) -> int:
    """Run the program until it ends or this process is told to stop; returns its exit status."""
    process = await asyncio.create_subprocess_exec(*order.argv, stdin=asyncio.subprocess.DEVNULL)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _pass_on, process, signal.SIGHUP)
    notifier = SystemdNotifier()
    async with asyncio.TaskGroup() as tasks:
        ended = tasks.create_task(process.wait(), name="program")
        stopping = tasks.create_task(stop.wait(), name="stop")
        pulse = tasks.create_task(_pulse(order.health, notifier), name="pulse")
        await asyncio.wait([ended, stopping], return_when=asyncio.FIRST_COMPLETED)
        pulse.cancel()
        stopping.cancel()
        if not ended.done():
            notifier.notify("STOPPING=1\nSTATUS=ends")
            await _end(process, order)
    status = process.returncode or 0
    return SIGNALLED - status if status < 0 else status


async def _pulse(health: SplitResult, notifier: SystemdNotifier) -> None:
    every_s = _pulse_interval_s()
    is_ready = False
    while True:
        problem = await problem_of(health)
        if problem is None:
            notifier.notify("WATCHDOG=1\nSTATUS=serves" if is_ready else "READY=1\nWATCHDOG=1\nSTATUS=serves")
            is_ready = True
        else:
            notifier.notify(f"STATUS={'does not answer' if is_ready else 'starts'}: {problem}")
        await asyncio.sleep(every_s if is_ready else STARTING_EVERY_S)


async def problem_of(page: SplitResult, *, any_status: bool = False) -> str | None:
    """Why a page is not well, None when it is: 200, or any answer at all."""
    try:
        async with asyncio.timeout(PROBE_WITHIN_S):
            status, body = await _get(page)
    except (OSError, TimeoutError, ValueError, IndexError) as error:
        return type(error).__name__
    return None if any_status or status == WELL else f"{status} {body}"


async def _get(url: SplitResult) -> tuple[int, str]:
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        path = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {url.netloc}\r\n\r\n".encode())
        answer = (await reader.read(4096)).decode(errors="replace")
        return int(answer.split(" ", 2)[1]), answer.partition("\r\n\r\n")[2].strip().replace("\n", " ")[:200]
    finally:
        writer.close()


async def _end(process: asyncio.subprocess.Process, order: Order) -> None:
    if order.drain_signal is not None:
        _pass_on(process, order.drain_signal)
        if await _has_ended(process, order.drain_s):
            return
    _pass_on(process, signal.SIGTERM)
    if not await _has_ended(process, STOP_WITHIN_S):
        _pass_on(process, signal.SIGKILL)
        await process.wait()


async def _has_ended(process: asyncio.subprocess.Process, within_s: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await process.wait()
    return process.returncode is not None


def _pass_on(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _pulse_interval_s() -> float:
    allowed_us = os.environ.get("WATCHDOG_USEC", "")
    return int(allowed_us) / MICROSECONDS / PULSES_PER_WATCHDOG if allowed_us.isdecimal() else DEFAULT_EVERY_S


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m provisioning.pulse", description=__doc__)
    parser.add_argument(
        "--health", type=urlsplit, required=True, help="page that answers 200 while the program is well"
    )
    parser.add_argument("--drain-signal", type=lambda name: signal.Signals[f"SIG{name}"], help="for example USR2")
    parser.add_argument("--drain-s", type=float, default=0.0, help="how long it may drain before SIGTERM")
    parser.add_argument("program", nargs="+")
    found = parser.parse_args()
    order = Order(argv=found.program, health=found.health, drain_signal=found.drain_signal, drain_s=found.drain_s)
    sys.exit(asyncio.run(run(order)))


if __name__ == "__main__":
    main()
