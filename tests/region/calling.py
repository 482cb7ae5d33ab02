"""Callers of a region while something is done to it: calls at several places, counted where the carrier stands."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.caller import CallPlan, CallTrace, Ending
from bench.run import RunOptions, line_cache, make_plans, new_run_directory, run_calls
from bench.scenario import Line, Say, Scenario
from bench.target import Trunk

AT_ONCE = 3
PLANS = 18
FIRST_CALL_WITHIN_S = 120.0
LAST_CALL_WITHIN_S = 330.0
LOOK_EVERY_S = 1.0
SEED = 11
# Never the same caller twice: who was cut off once is greeted in another way.
_NUMBERS = itertools.count(15_500_000_000 + int(time.time()) % 1_000_000 * 100)


def asked(*texts: str) -> Scenario:
    """A caller of the bank who says these lines."""
    return Scenario(tenant="harbour-bank", id="asked", tags=(), lines=tuple(Line(act=Say(text=text)) for text in texts))


SCENARIOS = (
    asked("What time do you close on Friday?", "And on Saturday?"),
    asked("Is there a fee for a replacement card?"),
)


@dataclass(slots=True)
class Calls:
    """Calls that go on until they are told to end. `traces` is whole once they have."""

    trunk: Trunk
    traces: Sequence[CallTrace] = ()
    ended: int = 0
    _is_over: threading.Event = field(default_factory=threading.Event)

    @property
    def unanswered(self) -> list[str]:
        """Calls that nobody took."""
        return [_told(trace) for trace in self.traces if trace.answered_after_s is None]

    @property
    def dropped(self) -> list[str]:
        """Calls that were ended while they ran."""
        return [
            _told(trace)
            for trace in self.traces
            if trace.answered_after_s is not None and trace.ending is not Ending.CALLER
        ]

    @property
    def lost(self) -> list[str]:
        """Calls that came to nothing."""
        return [*self.unanswered, *self.dropped]

    @property
    def summary(self) -> str:
        """For people. What callers found odd (an answer that came late) is not counted as lost."""
        odd = [_told(trace) for trace in self.traces if trace.problems and not _is_lost(trace)]
        answered = [trace.answered_after_s for trace in self.traces if trace.answered_after_s is not None]
        slowest = f", answered after at most {max(answered):.1f} s" if answered else ""
        figures = f"{len(self.traces)} calls, {len(self.unanswered)} unanswered, {len(self.dropped)} dropped{slowest}"
        return "\n  ".join([f"{figures}, {len(odd)} odd", *self.lost, *odd])

    def run(self) -> None:
        """Place calls until `end` is called. Raises CarrierError."""
        options = RunOptions(calls=PLANS, concurrency=AT_ONCE, seed=SEED)
        plans = make_plans(self.trunk, SCENARIOS, options, line_cache(self.trunk), lambda *_: None)
        directory = new_run_directory(self.trunk)
        result = asyncio.run(run_calls(self.trunk, self._until_over(plans), AT_ONCE, directory, self._count))
        self.traces = result.traces

    def end(self) -> None:
        """Place no further call; those that run come to their own end."""
        self._is_over.set()

    def until_more(self, count: int, within_s: float) -> None:
        """Wait until so many more have ended."""
        wanted = self.ended + count
        assert until(lambda: self.ended >= wanted, within_s), f"{self.ended} of {wanted} calls ended"

    def _count(self, ended: int, _: int) -> None:
        self.ended = ended

    def _until_over(self, plans: Sequence[CallPlan]) -> Iterator[CallPlan]:
        for number in itertools.count():
            if self._is_over.is_set():
                return
            plan = plans[number % len(plans)]
            yield CallPlan(
                call_id=f"bench-{SEED:04}-{number:06}",
                seed=plan.seed,
                destination=plan.destination,
                caller_number=f"+{next(_NUMBERS)}",
                scenario=plan.scenario,
                lines=plan.lines,
                is_recorded=False,
            )


@contextmanager
def calls_going_on(trunk: Trunk) -> Iterator[Calls]:
    """Calls all through the block, from the first one that has ended on; none is under way after it."""
    calls = Calls(trunk)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="calls") as pool:
        running = pool.submit(calls.run)
        try:
            assert until(lambda: calls.ended > 0 or running.done(), FIRST_CALL_WITHIN_S), "no call has ended"
            _raise_early(running)
            yield calls
        finally:
            calls.end()
            running.result(timeout=LAST_CALL_WITHIN_S)
            print(f"\n{calls.summary}")  # noqa: T201 - the figures that are asked for


def until(is_so: Callable[[], bool], within_s: float) -> bool:
    """Whether it came to be so in time."""
    deadline = time.monotonic() + within_s
    while not (found := is_so()) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY_S)
    return found


def _raise_early(running: Future[None]) -> None:
    if running.done():
        running.result()


def _is_lost(trace: CallTrace) -> bool:
    return trace.answered_after_s is None or trace.ending is not Ending.CALLER


def _told(trace: CallTrace) -> str:
    return (
        f"{trace.plan.call_id} at {trace.answered_at:%H:%M:%S}, {trace.length_s:.0f} s: {trace.ending}"
        f" (cause {trace.cause}) {'; '.join(trace.problems)}"
    ).rstrip()
