"""Calls that go on all through a drill, a few at a time, each followed to the node that has it.

Who loses a call rings back once, from the same number, and goes on with the line that was not answered.
"""

import asyncio
import datetime as dt
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.caller import CallPlan, CallTrace, Ending
from bench.carrier import Carrier, IncomingCall
from bench.drills.errors import DrillHandError
from bench.drills.live_call import FeltBlow, LiveCall, LiveCalls
from bench.drills.person import Person
from bench.drills.region import DrillRegion, RunningCall
from bench.run import STAGGER_S, line_cache, prepare_lines
from bench.scenario import Scenario, load_scenarios

SCENARIOS = Path(__file__).with_name("calls.yaml")
VOICES = 3
NUMBERS_FROM = 15_600_000_000
RING_BACK_AFTER_S = 3.0
RING_BACK_ATTEMPTS = 10
# Who was refused does not ring again in the same moment.
AGAIN_AFTER_S = 4.0
# Who hears nothing any more ends their line, waits for a word, and gives up.
COSTS_CALLS_WITHIN_S = 30.0
# A slot is taken while the phone rings; clocks of machines agree within this.
CLOCKS_AGREE_S = 1.0
FOUND_WITHIN_S = 6.0
LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EndedCall:
    """A call of a drill that is over."""

    call: LiveCall
    trace: CallTrace

    @property
    def is_lost(self) -> bool:
        """Answered, and it came to nothing: hung up by the other side, or nobody spoke any more."""
        return self.trace.answered_after_s is not None and not self.trace.is_script_done

    @property
    def fatal(self) -> FeltBlow | None:
        """The blow that cost the call, of a kind that may: soon after it the call was over.

        A caller whose Asterisk is dead waits for a word for a while, in which other blows may fall.
        """
        if not self.is_lost:
            return None
        ended_s = self.call.answered_s + self.trace.length_s
        costly = (blow for blow in self.call.blows if blow.promise.calls_lost is None)
        return next((blow for blow in costly if ended_s - blow.at_s <= COSTS_CALLS_WITHIN_S), None)

    @property
    def decisive(self) -> FeltBlow | None:
        """The blow that the call is counted under: the fatal one, or the last."""
        return self.fatal or next(reversed(self.call.blows), None)


@dataclass(slots=True)
class DrillCalls:
    """Keeps `at_once` calls going until `end` is called. Who lost theirs rings back where that is promised to help."""

    region: DrillRegion
    carrier: Carrier
    seed: int
    at_once: int
    report: Callable[[int], None]
    recordings: Path
    live: LiveCalls = field(default_factory=LiveCalls)
    ended: list[EndedCall] = field(default_factory=list)
    _is_over: bool = False
    _known: set[str] = field(default_factory=set)
    _tasks: asyncio.TaskGroup | None = None

    async def run(self, plans: Iterator[CallPlan]) -> None:
        """Place calls until `end`; returns when the last one is over."""
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            for place in range(self.at_once):
                group.create_task(self._one_after_another(place, plans), name=f"drill:place:{place}")

    def end(self) -> None:
        """Place no further call."""
        self._is_over = True

    async def _one_after_another(self, place: int, plans: Iterator[CallPlan]) -> None:
        await asyncio.sleep(place * STAGGER_S * 5)
        for plan in plans:
            if self._is_over:
                return
            ended = await self._place(plan)
            cost = ended.decisive
            if ended.is_lost and cost is not None and cost.promise.resumed_share is not None:
                await asyncio.sleep(RING_BACK_AFTER_S)
                ended = await self._ring_back(_rest_of(ended), cost.number)
            if ended.trace.answered_after_s is None:
                await asyncio.sleep(AGAIN_AFTER_S)

    async def _ring_back(self, plan: CallPlan, lost_in: int) -> EndedCall:
        """As a person does: again and again until somebody answers, a few times."""
        for attempt in range(RING_BACK_ATTEMPTS):
            ended = await self._place(replace(plan, call_id=f"again{attempt}-{plan.call_id}"), lost_in)
            if ended.trace.answered_after_s is not None or self._is_over:
                break
            await asyncio.sleep(AGAIN_AFTER_S)
        return ended

    async def _place(self, plan: CallPlan, lost_in: int | None = None) -> EndedCall:
        call = LiveCall(plan=plan, rang_at=dt.datetime.now(dt.UTC), lost_in=lost_in)
        person = Person(
            carrier=self.carrier,
            plan=plan,
            doors=tuple(f"{host}:{port}" for host, port in self.region.doors),
            live=self.live,
            call=call,
            answered=self._answered,
            recordings=self.recordings,
        )
        ended = EndedCall(call=call, trace=await person.place())
        self.ended.append(ended)
        self.report(len(self.ended))
        return ended

    def _answered(self, call: LiveCall) -> None:
        assert self._tasks is not None
        self._tasks.create_task(self._find(call), name=f"drill:find:{call.plan.call_id}")

    async def _find(self, call: LiveCall) -> None:
        """Look on all nodes for the call's slot."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + FOUND_WITHIN_S
        while loop.time() < deadline:
            nodes = self.region.nodes
            running_calls = await asyncio.gather(*(self._running(node) for node in nodes))
            found = [(running, node) for node, calls in zip(nodes, running_calls, strict=True) for running in calls]
            mine = [(running, node) for running, node in found if self._may_be(call, running)]
            if mine:
                running, node = min(mine, key=lambda pair: _apart_s(call, pair[0]))
                self._known.add(running.call_id)
                call.node, call.node_call_id = node, running.call_id
                self.live.enter(call, call.phase)
                return
            await asyncio.sleep(LOOK_EVERY_S)

    async def _running(self, node: str) -> tuple[RunningCall, ...]:
        try:
            return await self.region.running_calls(node)
        except DrillHandError:
            # A node that was taken away; the call is on another one.
            return ()

    def _may_be(self, call: LiveCall, running: RunningCall) -> bool:
        assert call.answered_at is not None
        tolerance = dt.timedelta(seconds=CLOCKS_AGREE_S)
        is_then = call.rang_at - tolerance <= running.taken_at <= call.answered_at + tolerance
        return is_then and running.call_id not in self._known


def make_plans(region: DrillRegion, seed: int, progress: Callable[[int, int], None]) -> Iterator[CallPlan]:
    """Calls without end, the lines of each scenario in three voices; prepared before the first one is asked for."""
    trunk = region.trunk
    scenarios = load_scenarios(SCENARIOS)
    cache = line_cache(trunk)
    spoken: list[CallPlan] = []
    for voice, scenario in itertools.product(range(VOICES), scenarios):
        number = f"sip:{trunk.number_of(scenario.tenant)}@{trunk.state.root.name}"
        lines = prepare_lines(cache, scenario, seed * 1000 + voice)
        spoken.append(
            CallPlan(call_id="", seed=0, destination=number, caller_number="", scenario=scenario, lines=lines)
        )
        progress(len(spoken), VOICES * len(scenarios))
    return _endless(spoken, seed)


def _endless(spoken: Sequence[CallPlan], seed: int) -> Iterator[CallPlan]:
    # Never the same caller twice: who was cut off once is greeted in another way.
    first = NUMBERS_FROM + int(time.time()) % 1_000_000 * 1000
    for number in itertools.count():
        yield replace(
            spoken[number % len(spoken)],
            call_id=f"drill-{seed:04}-{number:06}",
            seed=seed * 100_000 + number,
            caller_number=f"+{first + number}",
        )


def _rest_of(ended: EndedCall) -> CallPlan:
    """The same caller with the lines that were not answered."""
    plan = ended.call.plan
    answered = max(0, len({utterance.line for utterance in ended.trace.utterances}) - 1)
    rest = plan.lines[answered:]
    scenario = Scenario(
        tenant=plan.scenario.tenant,
        id=plan.scenario.id,
        tags=plan.scenario.tags,
        lines=plan.scenario.lines[answered:],
        now=plan.scenario.now,
    )
    return replace(plan, lines=rest, scenario=scenario)


def _apart_s(call: LiveCall, running: RunningCall) -> float:
    assert call.answered_at is not None
    return abs((running.taken_at - call.answered_at).total_seconds())


async def nobody(_: Carrier, __: IncomingCall) -> None:
    """No human answers in a drill."""


def refused_causes(ended: Sequence[EndedCall]) -> list[int]:
    """Q.850 causes of the calls that nobody took."""
    return [one.trace.cause for one in ended if one.trace.ending is Ending.REFUSED]
