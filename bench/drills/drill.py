"""A whole drill: the carrier, its calls, the rounds; then what the recordings say."""

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bench.caller import CallPlan
from bench.carrier import Carrier, carrier_settings
from bench.drills.abort import AbortSwitch
from bench.drills.calls import DrillCalls, EndedCall, nobody
from bench.drills.errors import DrillImpossibleError, DrillRefusedError
from bench.drills.guard import refusals
from bench.drills.kinds import Promise
from bench.drills.probe import SipCodes
from bench.drills.region import DrillRegion
from bench.drills.rounds import DrillPlan, Round, Rounds
from bench.errors import BenchError, RegionMissingError
from provisioning.asterisk.image import ensure_image
from provisioning.asterisk.settings import PortRange

LAST_CALL_WITHIN_S = 200.0
# Calls go on before the first blow and after the last, to be compared with.
SETTLE_S = 5.0
RECORDINGS = "recordings"
WAKE_EVERY_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillRun:
    """A drill that is over. `ended_because` is empty when all rounds were done."""

    plan: DrillPlan
    region: str
    promise: Promise
    started_at: dt.datetime
    ended_at: dt.datetime
    ended_because: str
    rounds: tuple[Round, ...]
    calls: tuple[EndedCall, ...]
    folder: Path
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
    if plan.kind not in region.kinds:
        able = ", ".join(sorted(region.kinds))
        raise DrillImpossibleError(f"{plan.kind} cannot be run in {region.name}; what can: {able}")
    refused = refusals(plan.kind, plan.spec, await region.health(), is_rehearsal=region.is_rehearsal)
    if refused:
        raise DrillRefusedError("; ".join(refused))
    started_at = dt.datetime.now(dt.UTC)
    abort = AbortSwitch(folder.parent)
    late_s: list[float] = []
    with abort.on_signals():
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch_ourselves(late_s), name="drill:late")
            rounds, calls, why = await _go(region, plan, plans, folder, abort, progress)
            watching.cancel()
    return DrillRun(
        plan=plan,
        region=region.name,
        promise=plan.spec.promise,
        started_at=started_at,
        ended_at=dt.datetime.now(dt.UTC),
        ended_because=why or abort.why,
        rounds=tuple(rounds.done),
        calls=tuple(calls),
        folder=folder,
        log=tuple(rounds.log),
        late_s=tuple(late_s),
    )


async def _watch_ourselves(late_s: list[float]) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        due_s = clock() + WAKE_EVERY_S
        await asyncio.sleep(WAKE_EVERY_S)
        late_s.append(clock() - due_s)


async def _go(
    region: DrillRegion,
    plan: DrillPlan,
    plans: Iterator[CallPlan],
    folder: Path,
    abort: AbortSwitch,
    progress: Progress,
) -> tuple[Rounds, Sequence[EndedCall], str]:
    async with AsyncExitStack() as stack:
        carrier = await stack.enter_async_context(await _carrier(region, folder))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        sip_codes = SipCodes(carrier)
        calls = DrillCalls(
            region=region,
            carrier=carrier,
            seed=plan.seed,
            at_once=plan.at_once,
            loses_words=plan.spec.loses_words,
            rings_back=plan.spec.promise.resumed_share is not None,
            report=progress.calls,
            recordings=folder / RECORDINGS,
        )
        rounds = Rounds(
            plan=plan,
            region=region,
            calls=calls,
            carrier=carrier,
            sip_codes=sip_codes,
            abort=abort,
            progress=progress.rounds,
        )
        watching = [
            tasks.create_task(sip_codes.read(), name="drill:sip-codes"),
            tasks.create_task(abort.watch(), name="drill:abort-file"),
        ]
        calling = tasks.create_task(calls.run(plans), name="drill:calls")
        why = ""
        try:
            await rounds.run()
        except* BenchError as group:
            why = str(_first(group))
        finally:
            calls.end()
        await asyncio.wait({calling}, timeout=LAST_CALL_WITHIN_S)
        for task in (calling, *watching):
            task.cancel()
    return rounds, calls.ended, why


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
