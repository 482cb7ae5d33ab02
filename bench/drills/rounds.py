"""One drill: calls go on, and round by round something is taken away at a random moment of a turn.

A round: guards -> the turns that are committed now -> a call enters the phase that was drawn -> a drawn delay ->
the blow, and new calls from then on -> it is held -> put back -> the region is whole again -> the turns once more.
What was taken away is put back however the round ends.
"""

import asyncio
import datetime as dt
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.carrier import Carrier
from bench.drills.abort import AbortSwitch
from bench.drills.calls import DrillCalls
from bench.drills.errors import DrillHandError, DrillRefusedError, DrillUndoError
from bench.drills.guard import refusals
from bench.drills.kinds import DrillKind, KindSpec, PartitionShape, Victim
from bench.drills.live_call import LiveCall, TurnPhase
from bench.drills.probe import Probe, Prober, SipCodes, since_blow
from bench.drills.region import Blow, DrillRegion, NodeHealth, Struck, Turn

# Where a turn may stand at the blow, and how much later than its beginning.
MOMENTS_S = {
    TurnPhase.GREETING: 3.0,
    TurnPhase.CALLER_SPEAKS: 1.5,
    TurnPhase.AGENT_THINKS: 0.4,
    TurnPhase.AGENT_SPEAKS: 2.5,
    TurnPhase.PAUSE: 0.4,
}
MOVE_ADDRESS = {DrillKind.NODE, DrillKind.FRONT_DOOR, DrillKind.PARTITION}
CALL_WITHIN_S = 90.0
# Every look costs the nodes some work.
LOOK_EVERY_S = 2.0
MOST_MISSES = 3
PROBE_WITHIN_S = 60.0
UNDONE_WITHIN_S = 180.0
# Whatever is taken away comes back by itself this much after we should have put it back.
DEAD_MAN_AFTER_S = 60.0
BETWEEN_ROUNDS_S = (1.0, 6.0)
TURNS_BACK_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What was done in one round and what came of it; times of day are UTC, `blow_s` is on the loop's clock."""

    number: int
    blow: Blow
    phase: str
    delay_s: float
    struck: Struck
    blow_s: float
    whole_after_s: float | None
    holder_before: str | None
    holder_after: str | None
    call_ids: tuple[str, ...]
    turns_before: int
    turns_lost: int
    probes: tuple[Probe, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillPlan:
    """What is to be run."""

    kind: DrillKind
    spec: KindSpec
    times: int
    seed: int
    at_once: int
    shape: PartitionShape | None = None


@dataclass(slots=True)
class Rounds:
    """Runs the rounds of one drill beside its calls."""

    plan: DrillPlan
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
        drawn = random.Random(self.plan.seed)  # noqa: S311 - moments, not secrets
        for number in range(self.plan.times):
            if self.abort.thrown.is_set():
                return
            await self._once(number, drawn)
            self.progress(len(self.done), self.plan.times)

    async def _once(self, number: int, drawn: random.Random) -> None:
        """One round. Where the call had just ended, or a machine did not answer, another one is tried."""
        for attempt in range(MOST_MISSES):
            try:
                await self._unless_aborted(self._round(number, drawn))
            except* DrillHandError:
                self._unmark(number)
                if attempt == MOST_MISSES - 1:
                    raise
            else:
                return

    def _unmark(self, number: int) -> None:
        for call in [*self.calls.live.calls.values(), *(ended.call for ended in self.calls.ended)]:
            if call.rounds and call.rounds[-1] == number:
                call.rounds.pop()
                call.blows_s.pop()

    async def _unless_aborted(self, work: Coroutine[Any, Any, None]) -> None:
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work, name="drill:round")
            aborting = group.create_task(self.abort.thrown.wait(), name="drill:abort")
            await asyncio.wait({working, aborting}, return_when=asyncio.FIRST_COMPLETED)
            aborting.cancel()
            working.cancel()

    async def _round(self, number: int, drawn: random.Random) -> None:
        await self._until_allowed()
        before = await self._turns()
        holder_before = await self._holder()
        call, phase, delay_s = await self._moment(drawn)
        blow = self._blow(call, holder_before)
        loop = asyncio.get_running_loop()
        asked_s, asked_at = loop.time(), dt.datetime.now(dt.UTC)
        async with asyncio.TaskGroup() as group:
            within_s = max(PROBE_WITHIN_S, self.plan.spec.held_s)
            done = asyncio.Event()
            new_calls = self._prober(number).run(
                began_s=asked_s, every_s=self.plan.spec.probe_every_s, within_s=within_s, struck=done
            )
            probing = group.create_task(new_calls, name=f"drill:new-calls:{number}")
            try:
                self._mark(number, self._hit(call, blow, ()), asked_s)
                struck = await self.region.strike(blow)
                done.set()
                moment = f"{phase}, {delay_s:.2f} s into it"
                self.log.append((struck.at, f"round {number + 1}: {struck.what} ({moment})"))
                offset_s = min(max(0.0, (struck.at - asked_at).total_seconds()), loop.time() - asked_s)
                hit = self._hit(call, blow, struck.call_ids)
                self._mark(number, hit, asked_s + offset_s)
                await asyncio.sleep(self.plan.spec.held_s)
            finally:
                # Also when we are cancelled: nothing is left taken away.
                await asyncio.shield(self._undo(number, blow))
            whole_after_s = await self._until_whole(asked_s + offset_s)
        lost = await self._lost(before)
        self.done.append(
            Round(
                number=number,
                blow=blow,
                phase=phase,
                delay_s=delay_s,
                struck=struck,
                blow_s=asked_s + offset_s,
                whole_after_s=whole_after_s,
                holder_before=holder_before,
                holder_after=await self._holder(),
                call_ids=tuple(one.plan.call_id for one in hit),
                turns_before=len(before),
                turns_lost=len(lost),
                probes=since_blow(probing.result(), offset_s),
            )
        )
        await asyncio.sleep(drawn.uniform(*BETWEEN_ROUNDS_S))

    async def _holder(self) -> str | None:
        """Who has the region's address, where the drill is about to move it."""
        return await self.region.address_holder() if self.plan.kind in MOVE_ADDRESS else None

    async def _undo(self, number: int, blow: Blow) -> None:
        try:
            async with asyncio.timeout(UNDONE_WITHIN_S):
                await self.region.undo(blow)
        except (DrillHandError, TimeoutError) as error:
            raise DrillUndoError(f"{blow.kind} of {blow.node or 'the hub'}: {error}") from error
        if self.plan.spec.held_s:
            self.log.append((dt.datetime.now(dt.UTC), f"round {number + 1}: put back"))

    async def _until_allowed(self) -> None:
        """A region that is about to be whole is given time; one that stays in trouble is left alone."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.plan.spec.back_within_s
        while reasons := self._refusals(await self.region.health()):
            if not self.done or loop.time() > deadline:
                raise DrillRefusedError("; ".join(reasons))
            await asyncio.sleep(LOOK_EVERY_S)

    def _refusals(self, nodes: Sequence[NodeHealth]) -> list[str]:
        return refusals(self.plan.kind, self.plan.spec, nodes, is_rehearsal=self.region.is_rehearsal)

    async def _moment(self, drawn: random.Random) -> tuple[LiveCall, TurnPhase, float]:
        """Wait for a call to enter the phase that was drawn, and a drawn delay more."""
        phase = drawn.choice(list(MOMENTS_S))
        delay_s = drawn.uniform(0.0, MOMENTS_S[phase])
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CALL_WITHIN_S
        while loop.time() < deadline:
            call = await self.calls.live.entering(phase, deadline - loop.time())
            if call is None:
                break
            await asyncio.sleep(delay_s)
            if call.phase is not TurnPhase.OVER:
                return call, phase, delay_s
        raise DrillRefusedError(f"no call came to the point where the {phase} within {CALL_WITHIN_S:.0f} s")

    def _blow(self, call: LiveCall, holder: str | None) -> Blow:
        spec, node = self.plan.spec, call.node
        if spec.victim is Victim.HUB:
            node = ""
        elif spec.victim is Victim.ADDRESS_HOLDER or self.plan.shape is PartitionShape.FRONT_DOOR:
            if holder is None:
                raise DrillRefusedError("no node, or more than one, has the region's address")
            node = holder
        return Blow(
            kind=self.plan.kind,
            node=node,
            call_id=call.node_call_id,
            shape=self.plan.shape,
            ends_after_s=spec.held_s + DEAD_MAN_AFTER_S,
        )

    def _hit(self, call: LiveCall, blow: Blow, call_ids: Sequence[str]) -> list[LiveCall]:
        """The calls of ours that were hit: the worker's, the node's, or all where it is nobody's in particular."""
        live = list(self.calls.live.calls.values())
        if self.plan.kind is DrillKind.WORKER:
            return [one for one in live if one is call or one.node_call_id in call_ids]
        if self.plan.spec.victim is not Victim.CALL:
            return live
        # A call that was not found yet may be on any node.
        return [one for one in live if one.node in {blow.node, ""}]

    def _mark(self, number: int, calls: Sequence[LiveCall], blow_s: float) -> None:
        for call in calls:
            if call.rounds and call.rounds[-1] == number:
                call.blows_s[-1] = blow_s
            else:
                call.blows_s.append(blow_s)
                call.rounds.append(number)

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

    async def _until_whole(self, blow_s: float) -> float | None:
        """Seconds from the blow until the region was whole again; None when it was not in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.plan.spec.back_within_s
        while loop.time() < deadline:
            if all(node.is_healthy for node in await self.region.health()):
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
