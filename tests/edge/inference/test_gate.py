"""Work in front of a model: bounded, cancellable, on time."""

import asyncio
import time
from collections.abc import Callable
from threading import Event

import pytest

from edge.inference.errors import QueueOverflowError, WorkExpiredError
from edge.inference.fair_queue import Rank
from edge.inference.gate import Claim, Gate, Turn


def _claim(tenant: str = "a", *, rank: Rank = Rank.LIVE, budget_s: float = 10.0) -> Claim:
    return Claim(tenant=tenant, rank=rank, budget_s=budget_s)


def _gate(*, concurrency: int = 1, capacity: int = 10) -> Gate:
    return Gate(name="test", concurrency=concurrency, capacity=capacity, weights={})


async def _until(gate: Gate, *, running: int, queued: int) -> None:
    async with asyncio.timeout(5):
        # The gate has no event for its own state.
        while (gate.health().running, gate.health().queued) != (running, queued):
            await asyncio.sleep(0)


async def test_no_more_than_the_allowed_number_runs_at_once() -> None:
    """Eight pieces of work on two threads never overlap more than twofold."""
    running, most = 0, 0

    def work(_: Turn) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.005)
        running -= 1

    async with _gate(concurrency=2) as gate, asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(gate.run(_claim(), 1.0, work))
    assert most == 2
    assert gate.health().running == 0
    assert gate.health().started == 8


async def test_work_that_cannot_begin_in_time_is_refused_on_time() -> None:
    """While the only thread is busy, a request with a budget of 50 ms fails after 50 ms, not after the work."""
    release = Event()
    async with _gate() as gate, asyncio.TaskGroup() as group:
        group.create_task(gate.run(_claim(), 1.0, lambda _: release.wait(10)))
        await _until(gate, running=1, queued=0)
        started_s = time.monotonic()
        with pytest.raises(WorkExpiredError):
            await gate.run(_claim(budget_s=0.05), 1.0, lambda _: None)
        assert time.monotonic() - started_s < 1.0
        assert gate.health().queued == 0
        assert gate.health().expired == 1
        release.set()


async def test_a_full_queue_refuses() -> None:
    """With the thread busy and the queue full, one more request fails at once."""
    release = Event()
    async with _gate(capacity=1) as gate, asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(gate.run(_claim(), 1.0, lambda _: release.wait(10)))
        await _until(gate, running=1, queued=1)
        with pytest.raises(QueueOverflowError):
            await gate.run(_claim(), 1.0, lambda _: None)
        release.set()


async def test_cancelling_a_waiter_frees_its_place() -> None:
    """A cancelled request leaves the queue and never runs."""
    release, ran = Event(), []
    async with _gate() as gate, asyncio.TaskGroup() as group:
        group.create_task(gate.run(_claim(), 1.0, lambda _: release.wait(10)))
        await _until(gate, running=1, queued=0)
        waiting = group.create_task(gate.run(_claim(), 1.0, lambda _: ran.append(1)))
        await _until(gate, running=1, queued=1)
        waiting.cancel()
        await _until(gate, running=1, queued=0)
        release.set()
    assert not ran


async def test_cancelling_running_work_tells_its_thread_and_keeps_the_slot_until_it_returns() -> None:
    """The engine sees `cancelled`; the next work starts only after it has returned."""
    seen: list[str] = []

    def work(turn: Turn) -> None:
        assert turn.cancelled.wait(10)
        time.sleep(0.02)
        seen.append("returned")

    async with _gate() as gate, asyncio.TaskGroup() as group:
        running = group.create_task(gate.run(_claim(), 1.0, work))
        await _until(gate, running=1, queued=0)
        running.cancel()
        await gate.run(_claim(), 1.0, lambda _: seen.append("next"))
    assert seen == ["returned", "next"]


async def test_an_error_of_the_work_reaches_its_waiter_and_frees_the_slot() -> None:
    """What the work raises is raised by `run`; the gate goes on."""

    def fail(_: Turn) -> None:
        raise ValueError("broken")

    async with _gate() as gate:
        with pytest.raises(ValueError, match="broken"):
            await gate.run(_claim(), 1.0, fail)
        result, _ = await gate.run(_claim(), 1.0, lambda _: 7)
        assert result == 7


async def test_stream_hands_out_pieces_while_the_work_goes_on() -> None:
    """The first piece arrives before the last is made; an error after it is raised in order."""
    go_on = Event()

    def work(_: Turn, emit: Callable[[object], None]) -> None:
        emit("first")
        assert go_on.wait(10)
        emit("second")
        raise ValueError("end")

    seen = []
    async with _gate() as gate:
        with pytest.raises(ValueError, match="end"):  # noqa: PT012 - the loop is what raises
            async for piece, _ in gate.stream(_claim(), 1.0, work):
                seen.append(piece)
                go_on.set()
    assert seen == ["first", "second"]


async def test_closing_a_stream_cancels_its_work() -> None:
    """A client that goes away ends the work."""

    def work(turn: Turn, emit: Callable[[object], None]) -> None:
        emit(1)
        assert turn.cancelled.wait(10)

    async with _gate() as gate:
        stream = gate.stream(_claim(), 1.0, work)
        assert (await anext(stream))[0] == 1
        await stream.aclose()
        await _until(gate, running=0, queued=0)
        assert gate.health().cancelled == 1


async def test_a_noisy_tenant_hardly_delays_a_quiet_one() -> None:
    """Behind fifty requests of one tenant, another's request waits for at most two of them."""
    order: list[str] = []
    async with _gate(capacity=100) as gate, asyncio.TaskGroup() as group:
        release = Event()
        group.create_task(gate.run(_claim("noisy"), 1.0, lambda _: release.wait(10)))
        for _ in range(50):
            group.create_task(gate.run(_claim("noisy"), 1.0, lambda _: order.append("noisy")))
        await _until(gate, running=1, queued=50)
        quiet = group.create_task(gate.run(_claim("quiet"), 1.0, lambda _: order.append("quiet")))
        await _until(gate, running=1, queued=51)
        release.set()
        await quiet
    assert order.index("quiet") <= 2


async def test_how_long_the_oldest_work_runs_is_known() -> None:
    """A thread that never comes back is seen by its age; when it does come back, it is forgotten."""
    release = Event()
    async with _gate(concurrency=2) as gate, asyncio.TaskGroup() as group:
        assert gate.longest_running_s() == 0.0
        group.create_task(gate.run(_claim(), 1.0, lambda _: release.wait(10)))
        await _until(gate, running=1, queued=0)
        await asyncio.sleep(0.05)
        await gate.run(_claim(), 1.0, lambda _: None)
        assert gate.longest_running_s() >= 0.05
        release.set()
        await _until(gate, running=0, queued=0)
        assert gate.longest_running_s() == 0.0


async def test_siblings_never_have_more_than_half_of_the_threads() -> None:
    """With both threads free, one piece of work of siblings runs; the other thread waits for this node's callers."""
    release = Event()
    async with _gate(concurrency=2, capacity=40) as gate, asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(gate.run(_claim(rank=Rank.SIBLING_LIVE), 1.0, lambda _: release.wait(10)))
        await _until(gate, running=1, queued=2)
        group.create_task(gate.run(_claim(rank=Rank.SHADOW), 1.0, lambda _: release.wait(10)))
        await _until(gate, running=2, queued=2)
        release.set()
    assert gate.health().running == 0
    assert gate.health().started == 4


async def test_siblings_never_have_more_than_a_quarter_of_the_places() -> None:
    """A node whose inference is gone cannot fill the queue of those that help it."""
    release = Event()
    async with _gate(capacity=8) as gate, asyncio.TaskGroup() as group:
        group.create_task(gate.run(_claim(), 1.0, lambda _: release.wait(10)))
        for _ in range(2):
            group.create_task(gate.run(_claim(rank=Rank.SIBLING_LIVE), 1.0, lambda _: None))
        await _until(gate, running=1, queued=2)
        with pytest.raises(QueueOverflowError):
            await gate.run(_claim(rank=Rank.SIBLING_SPECULATIVE), 1.0, lambda _: None)
        own = group.create_task(gate.run(_claim(rank=Rank.SHADOW), 1.0, lambda _: None))
        await _until(gate, running=1, queued=3)
        release.set()
        await own


async def test_a_withdrawn_turn_of_a_sibling_is_free_again() -> None:
    """Cancelling in the moment of the grant does not use up the siblings' share for ever."""
    release = Event()
    async with _gate() as gate, asyncio.TaskGroup() as group:
        group.create_task(gate.run(_claim(), 1.0, lambda _: release.wait(10)))
        given_up = group.create_task(gate.run(_claim(rank=Rank.SIBLING_LIVE), 1.0, lambda _: None))
        await _until(gate, running=1, queued=1)
        given_up.cancel()
        await _until(gate, running=1, queued=0)
        release.set()
        async with asyncio.timeout(5):
            assert (await gate.run(_claim(rank=Rank.SIBLING_LIVE), 1.0, lambda _: 3))[0] == 3
