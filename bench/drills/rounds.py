"""One drill: calls go on, and round by round something is taken away at a random moment of a turn.

A round: guards -> the turns that are committed now -> a call enters the phase that was drawn -> a drawn delay ->
the blow, and new calls from then on -> it is held -> put back -> the region is whole again -> the turns once more.
What was taken away is put back however the round ends.
"""

import asyncio
import datetime as dt
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.carrier import Carrier
from bench.drills.abort import AbortSwitch
from bench.drills.aim import aims_at_holder, blow_of, calls_hit
from bench.drills.calls import DrillCalls
from bench.drills.drawing import RoundPlan
from bench.drills.errors import DrillHandError, DrillRefusedError, DrillUndoError
from bench.drills.guard import refusals
from bench.drills.kinds import DrillKind, Victim
from bench.drills.live_call import FeltBlow, LiveCall, TurnPhase
from bench.drills.probe import Probe, Prober, SipCodes, since_blow
from bench.drills.region import Blow, DrillRegion, NodeHealth, Struck, Turn

MOVE_ADDRESS = {DrillKind.NODE, DrillKind.FRONT_DOOR, DrillKind.PARTITION}
CALL_WITHIN_S = 90.0
# Every look costs the nodes some work.
LOOK_EVERY_S = 2.0
# A caller on a dead line still speaks for a while, but their node has their call no more.
MOST_MISSES = 6
PROBE_WITHIN_S = 60.0
UNDONE_WITHIN_S = 180.0
UNDO_AGAIN_AFTER_S = 3.0
# An address that moves is nobody's for a moment.
HELD_WITHIN_S = 30.0
TURNS_BACK_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What was done in one round and what came of it; times of day are UTC, `blow_s` is on the loop's clock."""

    plan: RoundPlan
    blow: Blow
    struck: Struck
    blow_s: float
    whole_after_s: float | None
    holder_before: str | None
    holder_after: str | None
    call_ids: tuple[str, ...]
    turns_before: int
    turns_lost: int
    probes: tuple[Probe, ...]


@dataclass(slots=True)
class Rounds:
    """Runs the rounds of one drill beside its calls: `times` of them, and none is begun after `for_s`."""

    plans: Iterator[RoundPlan]
    times: int
    for_s: float
    region: DrillRegion
    calls: DrillCalls
    carrier: Carrier
    sip_codes: SipCodes
    abort: AbortSwitch
    progress: Callable[[int, int], None]
    done: list[Round] = field(default_factory=list)
    # What was done when, also in a round that did not come to its end.
    log: list[tuple[dt.datetime, str]] = field(default_factory=list)

    async def run(self) -> None:
        """Run until all rounds are done, or the switch is thrown, or a guard says no. Raises DrillRefusedError."""
        clock = asyncio.get_running_loop().time
        until_s = clock() + self.for_s
        while len(self.done) < self.times and clock() < until_s and not self.abort.thrown.is_set():
            await self._once(next(self.plans))
            self.progress(len(self.done), self.times)

    async def _once(self, plan: RoundPlan) -> None:
        """One round. Where the call had just ended, or a machine did not answer, another one is tried."""
        for attempt in range(MOST_MISSES):
            try:
                await self._unless_aborted(self._round(plan))
            except* DrillHandError:
                self._unmark(plan.number)
                if attempt == MOST_MISSES - 1:
                    raise
                await asyncio.sleep(LOOK_EVERY_S)
            else:
                return

    def _unmark(self, number: int) -> None:
        for call in [*self.calls.live.calls.values(), *(ended.call for ended in self.calls.ended)]:
            call.forget(number)

    async def _unless_aborted(self, work: Coroutine[Any, Any, None]) -> None:
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work, name="drill:round")
            aborting = group.create_task(self.abort.thrown.wait(), name="drill:abort")
            await asyncio.wait({working, aborting}, return_when=asyncio.FIRST_COMPLETED)
            aborting.cancel()
            working.cancel()

    async def _round(self, plan: RoundPlan) -> None:
        await self._until_allowed(plan)
        before = await self._turns()
        holder_before = await self._holder(plan)
        call = await self._moment(plan)
        blow = blow_of(plan, call, holder_before)
        loop = asyncio.get_running_loop()
        asked_s, asked_at = loop.time(), dt.datetime.now(dt.UTC)
        async with asyncio.TaskGroup() as group:
            within_s = max(PROBE_WITHIN_S, plan.spec.held_s)
            done = asyncio.Event()
            new_calls = self._prober(plan.number).run(
                began_s=asked_s, every_s=plan.spec.probe_every_s, within_s=within_s, struck=done
            )
            probing = group.create_task(new_calls, name=f"drill:new-calls:{plan.number}")
            try:
                self._mark(plan, calls_hit(plan, call, blow, (), self.calls.live), asked_s)
                struck = await self.region.strike(blow)
                done.set()
                moment = f"{plan.phase}, {plan.delay_s:.2f} s into it"
                self.log.append((struck.at, f"round {plan.number + 1}: {struck.what} ({moment})"))
                offset_s = min(max(0.0, (struck.at - asked_at).total_seconds()), loop.time() - asked_s)
                hit = calls_hit(plan, call, blow, struck.call_ids, self.calls.live)
                self._mark(plan, hit, asked_s + offset_s)
                await asyncio.sleep(plan.spec.held_s)
            finally:
                # Also when we are cancelled: nothing is left taken away.
                await asyncio.shield(self._undo(plan, blow))
            whole_after_s = await self._until_whole(plan, asked_s + offset_s)
        lost = await self._lost(before)
        self.done.append(
            Round(
                plan=plan,
                blow=blow,
                struck=struck,
                blow_s=asked_s + offset_s,
                whole_after_s=whole_after_s,
                holder_before=holder_before,
                holder_after=await self._holder(plan),
                call_ids=tuple(one.plan.call_id for one in hit),
                turns_before=len(before),
                turns_lost=len(lost),
                probes=since_blow(probing.result(), offset_s),
            )
        )
        await asyncio.sleep(plan.pause_s)

    async def _holder(self, plan: RoundPlan) -> str | None:
        """Who has the region's address, where the round is about to move it."""
        if plan.kind not in MOVE_ADDRESS:
            return None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HELD_WITHIN_S
        while (holder := await self.region.address_holder()) is None and aims_at_holder(plan):
            if loop.time() > deadline:
                break
            await asyncio.sleep(LOOK_EVERY_S)
        return holder

    async def _undo(self, plan: RoundPlan, blow: Blow) -> None:
        """A machine that does not answer now may do so in a moment: it is tried until the time is over."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + UNDONE_WITHIN_S
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    await self.region.undo(blow)
                break
            except (DrillHandError, TimeoutError) as error:
                if loop.time() + UNDO_AGAIN_AFTER_S > deadline:
                    raise DrillUndoError(f"{blow.kind} of {blow.node or 'the hub'}: {error}") from error
            await asyncio.sleep(UNDO_AGAIN_AFTER_S)
        if plan.spec.held_s:
            self.log.append((dt.datetime.now(dt.UTC), f"round {plan.number + 1}: put back"))

    async def _until_allowed(self, plan: RoundPlan) -> None:
        """A region that is about to be whole is given time; one that stays in trouble is left alone."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + plan.spec.back_within_s
        while reasons := self._refusals(plan, await self.region.health(), await self._hub_troubles(plan)):
            if not self.done or loop.time() > deadline:
                raise DrillRefusedError("; ".join(reasons))
            await asyncio.sleep(LOOK_EVERY_S)

    def _refusals(self, plan: RoundPlan, nodes: Sequence[NodeHealth], hub: Sequence[str]) -> list[str]:
        return refusals(plan.kind, plan.spec, nodes, hub, is_rehearsal=self.region.is_rehearsal)

    async def _hub_troubles(self, plan: RoundPlan) -> Sequence[str]:
        """Only where it is about to be taken away, or was: calls do not need it."""
        return await self.region.hub_troubles() if plan.spec.victim is Victim.HUB else ()

    async def _moment(self, plan: RoundPlan) -> LiveCall:
        """Wait for a call to enter the phase that was drawn, and the drawn delay more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CALL_WITHIN_S
        while loop.time() < deadline:
            call = await self.calls.live.entering(plan.phase, deadline - loop.time())
            if call is None:
                break
            await asyncio.sleep(plan.delay_s)
            if call.phase is not TurnPhase.OVER:
                return call
        raise DrillRefusedError(f"no call came to the point where the {plan.phase} within {CALL_WITHIN_S:.0f} s")

    @staticmethod
    def _mark(plan: RoundPlan, calls: Sequence[LiveCall], blow_s: float) -> None:
        for call in calls:
            call.feel(FeltBlow(number=plan.number, kind=plan.kind, at_s=blow_s))

    def _prober(self, number: int) -> Prober:
        trunk = self.region.trunk
        return Prober(
            carrier=self.carrier,
            sip_codes=self.sip_codes,
            doors=tuple(f"{host}:{port}" for host, port in self.region.doors),
            number=next(iter(trunk.numbers)),
            caller_number=f"+{15_700_000_000 + number}",
            name=f"probe-{number:04}",
        )

    async def _until_whole(self, plan: RoundPlan, blow_s: float) -> float | None:
        """Seconds from the blow until the region was whole again; None when it was not in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + plan.spec.back_within_s
        while loop.time() < deadline:
            nodes, hub = await self.region.health(), await self._hub_troubles(plan)
            if all(node.is_healthy for node in nodes) and not hub:
                return loop.time() - blow_s
            await asyncio.sleep(LOOK_EVERY_S)
        return None

    async def _turns(self) -> frozenset[Turn]:
        return frozenset[Turn]().union(*await asyncio.gather(*(self.region.turns(node) for node in self.region.nodes)))

    async def _lost(self, before: frozenset[Turn]) -> frozenset[Turn]:
        """Turns that were committed before and are nowhere now; a node may take a moment to open its records."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + TURNS_BACK_WITHIN_S
        while True:
            try:
                lost = before - await self._turns()
            except DrillHandError:
                lost = before
            if not lost or loop.time() > deadline:
                return lost
            await asyncio.sleep(LOOK_EVERY_S)
