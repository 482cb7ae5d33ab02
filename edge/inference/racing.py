"""One request, asked of one endpoint after the other until there is an answer or its time is over.

The next endpoint is asked at once when one fails or turns out to hang, and beside the first when that is slow
(`edge.inference.hedging`). The first answer wins; who still works on it is told to stop. Only work that may be done
twice comes here: nothing of it has an effect outside of the answer.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import grpc

from edge.inference.endpoint import Endpoint
from edge.inference.errors import InferenceError, InferenceLateError, InferenceUnavailableError
from edge.inference.hedging import BOUNDS, FirstAnswers, HedgeBudget, Work

Answer = TypeVar("Answer")
# Seconds that are left go in.
Ask = Callable[[float], Awaitable[Answer]]

_Code = grpc.StatusCode
# The service is well, and this request is nothing for it, or it has too much to do.
_ITS_OWN_FAULT = frozenset({_Code.INVALID_ARGUMENT, _Code.FAILED_PRECONDITION, _Code.RESOURCE_EXHAUSTED})
# Elsewhere it may go better, but everybody's trying again would make an overload worse: counted as a second request.
_COUNTED = frozenset({_Code.RESOURCE_EXHAUSTED, _Code.INTERNAL, _Code.UNKNOWN})


class UnsuitedAnswerError(InferenceUnavailableError):
    """An answer of a model, or a division of a text, that does not fit what came before."""


@dataclass(slots=True)
class Standing:
    """What all requests of a client share, and have counted."""

    budget: HedgeBudget = field(default_factory=HedgeBudget)
    answers: dict[Work, FirstAnswers] = field(
        default_factory=lambda: {work: FirstAnswers(BOUNDS[work]) for work in Work}
    )
    served: Counter[tuple[str, Work]] = field(default_factory=Counter)
    hedges: Counter[tuple[Work, str]] = field(default_factory=Counter)
    failovers: Counter[tuple[Work, str]] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True)
class Candidate(Generic[Answer]):
    """Somebody who may be asked, and how."""

    endpoint: Endpoint
    ask: Ask[Answer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """Somebody who was asked."""

    endpoint: Endpoint
    started_s: float
    is_hedge: bool


@dataclass(frozen=True, slots=True)
class Won(Generic[Answer]):
    """The outcome of an ask that was answered."""

    answer: Answer


class Race(Generic[Answer]):
    """One request, or the next piece of a stream (`is_first` false, which is counted and measured as no request).

    `discard` is given answers that came too late to be of use.
    """

    def __init__(
        self, standing: Standing, work: Work, within_s: float, discard: Callable[[Answer], None], *, is_first: bool
    ) -> None:
        self._standing = standing
        self._work = work
        self._discard = discard
        self._is_first = is_first
        self._loop = asyncio.get_running_loop()
        self._running: dict[asyncio.Task[Won[Answer] | Exception], Runner] = {}
        self._deadline_s = self._hedge_at_s = self._loop.time() + within_s
        self._first_error: Exception | None = None
        # Whether others than the first candidate were asked.
        self._moved = False
        # Endpoints that were found to hang during this request.
        self._given_up: set[str] = set()

    async def run(self, candidates: Sequence[Candidate[Answer]]) -> Answer:
        """The first answer. Raises InferenceUnavailableError, InferenceLateError and what an ask raises."""
        self._candidates = deque(candidates)
        try:
            async with asyncio.TaskGroup() as self._group:
                try:
                    outcome = await self._outcome()
                finally:
                    self._end()
        finally:
            for task in self._running:
                self._drop(task)
        if isinstance(outcome, Won):
            return outcome.answer
        raise outcome

    async def _outcome(self) -> Won[Answer] | Exception:
        if self._is_first:
            self._standing.budget.earn()
        self._start_next(is_hedge=False)
        while self._running:
            done = await self._happening()
            for task in [task for task in self._running if task in done]:
                outcome, runner = _outcome_of(task), self._running.pop(task)
                if isinstance(outcome, Won):
                    self._won(runner)
                    return outcome
                self._failed(runner, outcome)
                if not self._goes_on_after(runner, outcome):
                    return self._first_error or outcome
            self._give_up_hung()
            now_s = self._loop.time()
            if now_s >= self._deadline_s:
                self._late()
                return InferenceLateError(f"no answer to {self._work} in time")
            if now_s >= self._hedge_at_s:
                self._hedge()
        return self._first_error or InferenceUnavailableError("there is no inference service")

    async def _happening(self) -> set[asyncio.Future[object]]:
        hung = {r.endpoint.hung for r in self._running.values() if r.endpoint.name not in self._given_up}
        timeout_s = max(0.0, min(self._deadline_s, self._hedge_at_s) - self._loop.time())
        waited_for: set[asyncio.Future[object]] = {*self._running, *hung}  # type: ignore[arg-type]
        done, _ = await asyncio.wait(waited_for, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return done

    def _start_next(self, *, is_hedge: bool) -> bool:
        if not self._candidates:
            return False
        candidate = self._candidates.popleft()
        self._moved = bool(self._running) or self._first_error is not None
        endpoint, now_s = candidate.endpoint, self._loop.time()
        endpoint.breakers[self._work].sent()
        left_s = self._deadline_s - now_s
        slow_after_s = min(self._standing.answers[self._work].slow_after_s(), left_s / 2)
        self._hedge_at_s = now_s + slow_after_s
        task = self._group.create_task(_attempt(candidate, left_s), name=f"inference:{endpoint.name}:{self._work}")
        self._running[task] = Runner(endpoint=endpoint, started_s=now_s, is_hedge=is_hedge)
        return True

    def _hedge(self) -> None:
        self._hedge_at_s = self._deadline_s
        if not self._candidates:
            return
        for runner in self._running.values():
            runner.endpoint.suspect()
        if not self._standing.budget.spend():
            self._standing.hedges[self._work, "over_budget"] += 1
            return
        self._standing.hedges[self._work, "sent"] += 1
        self._start_next(is_hedge=True)

    def _give_up_hung(self) -> None:
        hung = {runner.endpoint.name for runner in self._running.values() if runner.endpoint.is_hung}
        if hung - self._given_up:
            self._given_up |= hung
            # Their answers are still welcome, should they wake up.
            if all(runner.endpoint.name in hung for runner in self._running.values()):
                self._fail_over("hung")

    def _fail_over(self, reason: str) -> None:
        if self._start_next(is_hedge=False):
            self._standing.failovers[self._work, reason] += 1

    def _goes_on_after(self, runner: Runner, error: Exception) -> bool:
        """Ask the next one if that is of use; false if no answer can be had any more."""
        code = _code(error)
        if code is _Code.DEADLINE_EXCEEDED or (code is _Code.INVALID_ARGUMENT and runner.endpoint.is_local):
            return False
        if not self._running and self._candidates and (code not in _COUNTED or self._standing.budget.spend()):
            self._fail_over(code.name.lower())
        return True

    def _failed(self, runner: Runner, error: Exception) -> None:
        self._first_error = self._first_error or error
        breaker = runner.endpoint.breakers[self._work]
        if _code(error) in _ITS_OWN_FAULT:
            breaker.withdrawn()
        else:
            breaker.failed(self._loop.time())

    def _won(self, winner: Runner) -> None:
        now_s = self._loop.time()
        winner.endpoint.breakers[self._work].succeeded()
        measured = [winner]
        if winner.is_hedge:
            self._standing.hedges[self._work, "won"] += 1
            # How slow they are nobody will know; they are this slow at least.
            measured += self._running.values()
            for loser in self._running.values():
                loser.endpoint.breakers[self._work].failed(now_s)
        if self._is_first or self._moved:
            self._standing.served[winner.endpoint.name, self._work] += 1
        if self._is_first:
            for runner in measured:
                self._standing.answers[self._work].add(now_s - runner.started_s)

    def _late(self) -> None:
        for runner in self._running.values():
            runner.endpoint.breakers[self._work].failed(self._loop.time())

    def _end(self) -> None:
        for task, runner in self._running.items():
            runner.endpoint.breakers[self._work].withdrawn()
            task.cancel()

    def _drop(self, task: asyncio.Task[Won[Answer] | Exception]) -> None:
        if not task.cancelled() and isinstance(outcome := task.result(), Won):
            self._discard(outcome.answer)


async def _attempt(candidate: Candidate[Answer], left_s: float) -> Won[Answer] | Exception:
    if candidate.endpoint.is_stopped:
        return UnsuitedAnswerError(f"{candidate.endpoint.name} has just left the region")
    try:
        return Won(await candidate.ask(left_s))
    except (grpc.aio.AioRpcError, InferenceError) as error:
        return error


def _outcome_of(task: asyncio.Task[Won[Answer] | Exception]) -> Won[Answer] | Exception:
    if task.cancelled():
        # Not by us: calls of a channel that is closed end so, and it must not look as if this request was given up.
        return UnsuitedAnswerError("the connection was closed")
    return task.result()


def _code(error: Exception) -> grpc.StatusCode:
    if isinstance(error, grpc.aio.AioRpcError):
        code: grpc.StatusCode = error.code()
        return code
    return _Code.FAILED_PRECONDITION
