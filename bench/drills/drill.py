"""A whole drill: the carrier, its calls, the rounds; then what the recordings say."""

import asyncio
import datetime as dt
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.caller import CallPlan
from bench.carrier import Carrier, carrier_settings
from bench.drills.abort import AbortSwitch
from bench.drills.aftermath import Aftermath, all_holdings, look_back
from bench.drills.calls import DrillCalls, EndedCall, nobody
from bench.drills.choice import DrillPlan, drilled_kinds
from bench.drills.drawing import draw_rounds
from bench.drills.kinds import DrillKind
from bench.drills.probe import SipCodes
from bench.drills.region import DrillRegion
from bench.drills.rounds import Round, Rounds
from bench.errors import BenchError, RegionMissingError
from provisioning.asterisk.image import ensure_image
from provisioning.asterisk.settings import PortRange

LAST_CALL_WITHIN_S = 200.0
RECORDINGS = "recordings"
WAKE_EVERY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRun:
    """A drill that is over. `ended_because` is empty when all rounds were done."""

    plan: DrillPlan
    region: str
    # What was drawn from; what the region cannot do, and why.
    kinds: frozenset[DrillKind]
    left_out: Mapping[str, str]
    started_at: dt.datetime
    ended_at: dt.datetime
    ended_because: str
    rounds: tuple[Round, ...]
    calls: tuple[EndedCall, ...]
    folder: Path
    # From the first call to the end of the last round.
    length_s: float
    aftermath: Aftermath = field(default_factory=Aftermath)
    # What was done when.
    log: tuple[tuple[dt.datetime, str], ...] = ()
    # How late the measuring process itself was woken up, in seconds: what it measured is no better than that.
    late_s: tuple[float, ...] = ()


@dataclass(slots=True)
class Progress:
    """Told how many calls are over, and how many rounds."""

    calls: Callable[[int], None] = field(default=lambda _: None)
    rounds: Callable[[int, int], None] = field(default=lambda _, __: None)


async def run_drill(
    region: DrillRegion, plan: DrillPlan, plans: Iterator[CallPlan], folder: Path, progress: Progress
) -> DrillRun:
    """Run it; what was taken away is there again when this returns.

    Raises DrillImpossibleError, DrillRefusedError (before anything was touched) or RegionMissingError.
    """
    kinds, left_out = await drilled_kinds(region, plan)
    held_before = await all_holdings(region)
    started_at = dt.datetime.now(dt.UTC)
    abort = AbortSwitch(folder.parent)
    late_s: list[float] = []
    with abort.on_signals():
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch_ourselves(late_s), name="drill:late")
            going = _Going(region=region, plan=plan, kinds=kinds, folder=folder, abort=abort, progress=progress)
            await going.run(plans)
            watching.cancel()
        ended_at = dt.datetime.now(dt.UTC)
        aftermath = await look_back(region, held_before, abort.thrown)
    return DrillRun(
        plan=plan,
        region=region.name,
        kinds=kinds,
        left_out=left_out,
        started_at=started_at,
        ended_at=ended_at,
        ended_because=going.why or abort.why,
        rounds=tuple(going.rounds),
        calls=tuple(going.calls),
        folder=folder,
        length_s=going.length_s,
        aftermath=aftermath,
        log=tuple(going.log),
        late_s=tuple(late_s),
    )


async def _watch_ourselves(late_s: list[float]) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        due_s = clock() + WAKE_EVERY_S
        await asyncio.sleep(WAKE_EVERY_S)
        late_s.append(clock() - due_s)


@dataclass(slots=True)
class _Going:
    """A drill that goes on; what is done of it stays when it ends early."""

    region: DrillRegion
    plan: DrillPlan
    kinds: frozenset[DrillKind]
    folder: Path
    abort: AbortSwitch
    progress: Progress
    rounds: Sequence[Round] = ()
    calls: Sequence[EndedCall] = ()
    log: Sequence[tuple[dt.datetime, str]] = ()
    length_s: float = 0.0
    why: str = ""

    async def run(self, plans: Iterator[CallPlan]) -> None:
        """Raises RegionMissingError and what the carrier raises; what ends the rounds is `why`."""
        async with AsyncExitStack() as stack:
            carrier = await stack.enter_async_context(await _carrier(self.region, self.folder))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            sip_codes = SipCodes(carrier)
            calls = self._calls(carrier)
            rounds = self._rounds(calls, carrier, sip_codes)
            self.calls, self.rounds, self.log = calls.ended, rounds.done, rounds.log
            watching = [
                tasks.create_task(sip_codes.read(), name="drill:sip-codes"),
                tasks.create_task(self.abort.watch(), name="drill:abort-file"),
            ]
            calling = tasks.create_task(calls.run(plans), name="drill:calls")
            began_s = asyncio.get_running_loop().time()
            try:
                await rounds.run()
            except* BenchError as group:
                self.why = str(_first(group))
            finally:
                calls.end()
                self.length_s = asyncio.get_running_loop().time() - began_s
            await asyncio.wait({calling}, timeout=LAST_CALL_WITHIN_S)
            for task in (calling, *watching):
                task.cancel()

    def _calls(self, carrier: Carrier) -> DrillCalls:
        return DrillCalls(
            region=self.region,
            carrier=carrier,
            seed=self.plan.seed,
            at_once=self.plan.at_once,
            report=self.progress.calls,
            recordings=self.folder / RECORDINGS,
        )

    def _rounds(self, calls: DrillCalls, carrier: Carrier, sip_codes: SipCodes) -> Rounds:
        return Rounds(
            plans=draw_rounds(self.plan.seed, self.kinds, self.plan.shape),
            times=self.plan.times,
            for_s=math.inf if self.plan.for_s is None else self.plan.for_s,
            region=self.region,
            calls=calls,
            carrier=carrier,
            sip_codes=sip_codes,
            abort=self.abort,
            progress=self.progress.rounds,
        )


def _first(group: BaseExceptionGroup[BenchError]) -> BenchError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


async def _carrier(region: DrillRegion, folder: Path) -> Carrier:
    trunk = region.trunk
    if trunk.sip is None:
        raise RegionMissingError("the region has no SIP trunk (Asterisk cannot be installed here)")
    settings = carrier_settings(
        folder / "carrier",
        sip_port=trunk.carrier.sip_port,
        node_sip=trunk.sip,
        rtp_ports=PortRange(first=trunk.carrier.rtp_first, last=trunk.carrier.rtp_last),
        host=trunk.carrier.host,
        humans_from=trunk.carrier.humans_from,
    )
    image = await asyncio.to_thread(ensure_image, state_directory=trunk.state.images)
    return Carrier(image, settings, nobody)
