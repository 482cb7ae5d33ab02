"""A worker that cannot go on leaves its calls as they are, whatever it was that failed; real processes, judged by what
they did on their way out."""

import asyncio
import subprocess
import sys

import pytest

from edge.call.departure import Departure, GuardedTasks
from edge.exit_status import FAILED, OPERATOR_NEEDED
from edge.telephony.errors import AriUnavailableError

WORKER = """
import asyncio, contextlib, sys
from contract.errors import Blame, BoroughError
from edge.call.departure import Departure, GuardedTasks
from edge.observability.logs import configure_logging

class Operators(BoroughError):
    code, blame, hint = "test.operators", Blame.OPERATOR, "none"

async def fails():
    await asyncio.sleep(0.05)
    raise {"bug": RuntimeError("a mistake"), "operator": Operators("a name")}[sys.argv[2]]

async def a_call():
    try:
        await asyncio.sleep(20)
    finally:
        print("hung up", flush=True)

async def settle(within_s):
    await asyncio.sleep(0.05)
    print("written", flush=True)
    return True

class Inner:
    async def __aenter__(self):
        self.group = await asyncio.TaskGroup().__aenter__()
        self.group.create_task(fails())
    async def __aexit__(self, *error):
        await self.group.__aexit__(*error)

async def main():
    departure = Departure(settle=settle)
    async with contextlib.AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(GuardedTasks(departure.failed))
        await stack.enter_async_context(departure)
        tasks.create_task(a_call())
        await asyncio.sleep(0)
        departure.is_armed = True
        if sys.argv[1] == "group":
            tasks.create_task(fails())
        else:
            await stack.enter_async_context(Inner())
        await asyncio.sleep(20)

configure_logging(worker="calls-1")
asyncio.run(main())
"""
WITHIN_S = 20.0


@pytest.mark.parametrize("where", ["group", "entered"])
@pytest.mark.parametrize(("what", "status"), [("bug", FAILED), ("operator", OPERATOR_NEEDED)])
def test_a_failure_ends_the_process_and_no_call(where: str, what: str, status: int) -> None:
    """The worker's own tasks, or those of something it has entered, such as its connection to Asterisk."""
    done = subprocess.run(
        [sys.executable, "-c", WORKER, where, what], capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == status
    assert done.stdout == "written\n"
    assert '"worker_failed"' in done.stderr
    assert {"bug": "RuntimeError: a mistake", "operator": "a name"}[what] in done.stderr


class Ended:
    """What a process that ends would have been given."""

    def __init__(self) -> None:
        self.statuses: list[int] = []

    async def settled(self, within_s: float) -> bool:
        raise OSError(f"no disk in {within_s} s")


async def test_records_that_cannot_be_written_hold_nobody_up() -> None:
    ended = Ended()
    await Departure(settle=ended.settled, end=ended.statuses.append).leave(0)
    assert ended.statuses == [0]


async def test_before_there_are_calls_it_fails_as_anything_does() -> None:
    ended = Ended()
    departure = Departure(settle=ended.settled, end=ended.statuses.append)
    with pytest.raises(AriUnavailableError):
        async with departure:
            raise AriUnavailableError("no Asterisk")
    assert ended.statuses == []


async def test_being_cancelled_is_no_failure() -> None:
    """A task that is cancelled before it began leaves no coroutine behind that nobody awaited."""
    ended = Ended()
    departure = Departure(settle=ended.settled, end=ended.statuses.append, is_armed=True)
    async with GuardedTasks(departure.failed) as tasks, departure:
        tasks.create_task(asyncio.sleep(20), name="late").cancel()
        running = tasks.create_task(asyncio.sleep(20), name="running")
        await asyncio.sleep(0)
        running.cancel()
    assert ended.statuses == []
