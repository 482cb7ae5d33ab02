"""Runs blocking model work on threads, a bounded number at once, in the order of a `FairQueue`.

Lifecycle of one piece of work: queued (its waiter may be cancelled, expire or be turned away) -> running on a thread
(cancelling sets an event that the engine polls; the slot is free again only when the thread has returned, so a model
never does more at once than it was given threads for).
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Self, TypeVar

from edge.inference.errors import QueueOverflowError, WorkExpiredError
from edge.inference.fair_queue import FairQueue, Rank, Ticket

T = TypeVar("T")
# Waits that the percentile of `GateHealth` looks back on: about a minute of a busy node.
_WAITS_KEPT = 512
# Pieces of a stream that may wait for the client: more than any answer has.
_STREAM_PIECES = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """For whom and how urgently a model is to work; `budget_s` is how long the answer is of use."""

    tenant: str
    rank: Rank
    budget_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GateHealth:
    """Load of one model, the leading indicator of a node's load."""

    queued: int
    running: int
    waited_p95_s: float
    started: int
    refused: int
    expired: int
    cancelled: int


@dataclass(slots=True)
class Counts:
    """What happened to the work of one model since the start."""

    started: int = 0
    refused: int = 0
    expired: int = 0
    cancelled: int = 0


class Turn:
    """One admitted piece of work: `queued_s` is how long it waited, `cancelled` tells its thread to stop early."""

    def __init__(self, *, queued_s: float, is_of_sibling: bool) -> None:
        self.queued_s = queued_s
        self.is_of_sibling = is_of_sibling
        self.cancelled = Event()


class Gate:
    """The only way to a model. An async context manager; leaving it waits for running work.

    Of its threads at most half work for siblings at once (one, where there is one), and of its places at most a quarter
    are theirs: a node whose own inference is gone must not bring down those that help it.
    """

    def __init__(self, *, name: str, concurrency: int, capacity: int, weights: Mapping[str, float]) -> None:
        self._name = name
        self._concurrency = concurrency
        self._sibling_concurrency = max(1, concurrency // 2)
        self._queue = FairQueue(capacity=capacity, weights=weights, sibling_capacity=max(1, capacity // 4))
        self._waiters: dict[int, asyncio.Future[None]] = {}
        self._numbers = itertools.count()
        self._running = 0
        self._running_for_siblings = 0
        self._begun_s: dict[object, float] = {}
        self._waits_s: deque[float] = deque(maxlen=_WAITS_KEPT)
        self._counts = Counts()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix=f"model:{self._name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def health(self) -> GateHealth:
        waits = sorted(self._waits_s)
        return GateHealth(
            queued=len(self._queue),
            running=self._running,
            waited_p95_s=waits[int(0.95 * (len(waits) - 1))] if waits else 0.0,
            started=self._counts.started,
            refused=self._counts.refused,
            expired=self._counts.expired,
            cancelled=self._counts.cancelled,
        )

    def longest_running_s(self) -> float:
        """How long the oldest work has been on its thread, 0 when there is none."""
        now_s = self._loop.time()
        return now_s - min(self._begun_s.values(), default=now_s)

    async def run(self, claim: Claim, cost: float, work: Callable[[Turn], T]) -> tuple[T, Turn]:
        """Wait for a turn and run `work` on a thread.

        Raises QueueOverflowError, WorkExpiredError, or what `work` raises.
        """
        turn = await self._admit(claim, cost)
        future = self._start(turn, lambda: work(turn))
        try:
            return await asyncio.shield(future), turn
        except asyncio.CancelledError:
            self._abandon(turn, future)
            raise

    async def stream(
        self, claim: Claim, cost: float, work: Callable[[Turn, Callable[[T], None]], None]
    ) -> AsyncGenerator[tuple[T, Turn], None]:
        """As `run`, for work that hands out pieces through the function it is given."""
        turn = await self._admit(claim, cost)
        pieces: asyncio.Queue[tuple[T] | None] = asyncio.Queue(_STREAM_PIECES)

        def emit(piece: T) -> None:
            self._loop.call_soon_threadsafe(pieces.put_nowait, (piece,))

        future = self._start(turn, lambda: work(turn, emit))
        future.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece[0], turn
            await future
        finally:
            if not future.done():
                self._abandon(turn, future)

    def _start(self, turn: Turn, work: Callable[[], T]) -> asyncio.Future[T]:
        future = self._loop.run_in_executor(self._threads, work)
        self._begun_s[future] = self._loop.time()
        future.add_done_callback(lambda done: self._finished(done, turn))
        return future

    def _abandon(self, turn: Turn, future: asyncio.Future[T]) -> None:
        turn.cancelled.set()
        self._counts.cancelled += 1
        # Nobody waits any more; an error of abandoned work is of no use, and asyncio would complain about it.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())

    def _finished(self, future: object, turn: Turn) -> None:
        del self._begun_s[future]
        self._free(is_of_sibling=turn.is_of_sibling)

    def _free(self, *, is_of_sibling: bool) -> None:
        self._running -= 1
        self._running_for_siblings -= int(is_of_sibling)
        self._dispatch()

    async def _admit(self, claim: Claim, cost: float) -> Turn:
        arrived_s = self._loop.time()
        ticket = Ticket(
            number=next(self._numbers),
            tenant=claim.tenant,
            rank=claim.rank,
            cost=cost,
            deadline_s=arrived_s + claim.budget_s,
        )
        waiter = self._loop.create_future()
        self._waiters[ticket.number] = waiter
        turned_away = self._queue.push(ticket)
        if turned_away is not None:
            self._counts.refused += 1
            self._fail(turned_away, QueueOverflowError(f"the queue of {self._name} is full"))
        self._dispatch()
        await self._wait(ticket, waiter)
        queued_s = self._loop.time() - arrived_s
        self._waits_s.append(queued_s)
        return Turn(queued_s=queued_s, is_of_sibling=ticket.is_of_sibling)

    async def _wait(self, ticket: Ticket, waiter: asyncio.Future[None]) -> None:
        try:
            async with asyncio.timeout_at(ticket.deadline_s):
                await waiter
        except TimeoutError as error:
            self._withdraw(ticket, waiter)
            self._counts.expired += 1
            raise WorkExpiredError(f"{self._name} had no turn in time") from error
        except asyncio.CancelledError:
            self._withdraw(ticket, waiter)
            self._counts.cancelled += 1
            raise
        finally:
            self._waiters.pop(ticket.number, None)

    def _withdraw(self, ticket: Ticket, waiter: asyncio.Future[None]) -> None:
        """Give up waiting; a turn that was granted in the same moment goes to the next in line."""
        was_granted = waiter.done() and not waiter.cancelled() and waiter.exception() is None
        if not self._queue.remove(ticket) and was_granted:
            self._counts.started -= 1
            self._free(is_of_sibling=ticket.is_of_sibling)

    def _fail(self, ticket: Ticket, error: Exception) -> None:
        waiter = self._waiters.get(ticket.number)
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    def _dispatch(self) -> None:
        while self._running < self._concurrency:
            may_be_siblings = self._running_for_siblings < self._sibling_concurrency
            dispatch = self._queue.pop(self._loop.time(), may_be_siblings=may_be_siblings)
            for ticket in dispatch.expired:
                self._counts.expired += 1
                self._fail(ticket, WorkExpiredError(f"{self._name} had no turn in time"))
            if dispatch.ticket is None:
                return
            waiter = self._waiters.get(dispatch.ticket.number)
            if waiter is None or waiter.done():
                continue
            self._running += 1
            self._running_for_siblings += int(dispatch.ticket.is_of_sibling)
            self._counts.started += 1
            waiter.set_result(None)
