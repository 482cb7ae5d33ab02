"""One run of calls: prepares the callers' lines, starts the carrier, keeps C calls going until N are done.

Owns the order of a run and its folder (`.state/bench/runs/<time>`). What was said is judged afterwards
(`bench.report`), so that the recognisers of the judge never compete with the node for the cores.
"""

import asyncio
import datetime as dt
import operator
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from bench import g711
from bench.caller import CallPlan, CallTrace, Desk, HumanCall, SpokenLine, place_call
from bench.carrier import Carrier, carrier_settings
from bench.errors import RegionMissingError
from bench.processes import CpuMeter
from bench.recording import Samples
from bench.scenario import Noise, Say, Scenario
from bench.target import Trunk
from bench.voices import RATE_HZ, CallerVoice, LineCache, PiperSpeaker, cough, line_from_file, voice_of
from provisioning.asterisk.image import ensure_image
from provisioning.asterisk.settings import PortRange

TRUNK_HZ = 8000
VOICE_MODEL = "en_US-joe-medium"
DESK_VOICE = CallerVoice(tempo=0.9, pitch=1.08)
DESK_GREETING = "Hello, this is Maria at the service desk. I have your details here, let us sort this out."
UH_HUH = "Uh-huh."
# Calls that start in the same instant would speak in step for the whole run.
STAGGER_S = 0.6
CPU_SAMPLE_S = 2.0
CALLER_NUMBERS_FROM = 15_557_000_000

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How many calls, how many at once, and the seed of all chance in the run."""

    calls: int
    concurrency: int
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What happened in a run; `started_at` is of each call, in the order of `traces`."""

    traces: tuple[CallTrace, ...]
    humans: tuple[HumanCall, ...]
    greeting: Samples
    node_cpu_s: float
    wall_s: float
    concurrency: int


def prepare_lines(cache: LineCache, scenario: Scenario, seed: int) -> tuple[SpokenLine, ...]:
    """The sounds of a scenario in the voice of this caller; synthesises what is not cached."""
    voice = voice_of(seed)
    spoken = []
    for line in scenario.lines:
        codes, noise_codes = b"", b""
        if isinstance(line.act, Say):
            codes = _on_trunk(line_from_file(line.act.wav) if line.act.wav else cache.line(line.act.text, voice))
            if line.act.noise is not None:
                noise_codes = _on_trunk(cough(seed) if line.act.noise is Noise.COUGH else cache.line(UH_HUH, voice))
        spoken.append(SpokenLine(line=line, codes=codes, noise_codes=noise_codes))
    return tuple(spoken)


def make_plans(
    target: Trunk, scenarios: Sequence[Scenario], options: RunOptions, cache: LineCache, progress: Progress
) -> tuple[CallPlan, ...]:
    """One plan per call: the scenarios in a shuffled order that the seed decides, over and over."""
    if target.sip is None:
        raise RegionMissingError("the running region has no SIP trunk (Asterisk cannot be installed here)")
    order = _orders(scenarios, options.seed)
    plans = []
    for index in range(options.calls):
        scenario = next(order)
        seed = options.seed * 1000 + index % 9
        plans.append(
            CallPlan(
                # Ids of one length: Asterisk refuses an id that begins with another one's.
                call_id=f"bench-{options.seed:04}-{index:06}",
                seed=seed,
                destination=f"sip:{target.number_of(scenario.tenant)}@{target.sip[0]}:{target.sip[1]}",
                caller_number=f"+{CALLER_NUMBERS_FROM + index}",
                scenario=scenario,
                lines=prepare_lines(cache, scenario, seed),
            )
        )
        progress(index + 1, options.calls)
    return tuple(plans)


def line_cache(target: Trunk) -> LineCache:
    """The cache of this machine's state folder."""
    model = target.state.models / VOICE_MODEL / f"{VOICE_MODEL}.onnx"
    return LineCache(target.state.root / "bench" / "lines", PiperSpeaker(model))


def new_run_directory(target: Trunk) -> Path:
    """A folder for the recordings and logs of one run."""
    name = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S.%f")
    directory = target.state.root / "bench" / "runs" / name
    directory.mkdir(parents=True)
    return directory


async def run_calls(
    target: Trunk, plans: Iterable[CallPlan], concurrency: int, directory: Path, progress: Progress
) -> RunResult:
    """Place all calls, `concurrency` at a time. Nothing is left running, however this ends.

    The next plan is asked for when a place is free, so an iterator may decide then what is called, and when to end.
    """
    assert target.sip is not None
    greeting = _on_trunk(line_cache(target).line(DESK_GREETING, DESK_VOICE))
    desk = Desk(greeting)
    settings = carrier_settings(
        directory / "carrier",
        sip_port=target.carrier.sip_port,
        node_sip=target.sip,
        rtp_ports=PortRange(first=target.carrier.rtp_first, last=target.carrier.rtp_last),
        host=target.carrier.host,
        humans_from=target.carrier.humans_from,
    )
    image = await asyncio.to_thread(ensure_image, state_directory=target.state.images)
    loop = asyncio.get_running_loop()
    async with Carrier(image, settings, desk.answer) as carrier:
        meter = CpuMeter(target.processes.all())
        began = loop.time()
        traces = await _keep_going(carrier, plans, concurrency, meter, progress)
        return RunResult(
            traces=tuple(traces),
            humans=tuple(desk.calls),
            greeting=g711.decode(greeting),
            node_cpu_s=meter.sample(),
            wall_s=loop.time() - began,
            concurrency=concurrency,
        )


async def _keep_going(
    carrier: Carrier, plans: Iterable[CallPlan], concurrency: int, meter: CpuMeter, progress: Progress
) -> list[CallTrace]:
    waiting = iter(plans)
    traces: list[CallTrace] = []

    async def call_one_after_another(place: int) -> None:
        await asyncio.sleep(place * STAGGER_S)
        for plan in waiting:
            traces.append(await place_call(carrier, plan))
            progress(len(traces), operator.length_hint(plans))

    async with asyncio.TaskGroup() as group:
        sampling = group.create_task(_sample(meter), name="bench:cpu")
        callers = [
            group.create_task(call_one_after_another(place), name=f"bench:place:{place}")
            for place in range(min(concurrency, operator.length_hint(plans, concurrency)))
        ]
        await asyncio.wait(callers)
        sampling.cancel()
    return traces


async def _sample(meter: CpuMeter) -> None:
    """Look often enough that a restarted process is seen before it ends."""
    while True:
        await asyncio.sleep(CPU_SAMPLE_S)
        meter.sample()


def _orders(scenarios: Sequence[Scenario], seed: int) -> Iterator[Scenario]:
    drawn = random.Random(seed)  # noqa: S311 - an order, not a secret
    while True:
        yield from drawn.sample(list(scenarios), len(scenarios))


def _on_trunk(samples: Samples) -> bytes:
    resampled = soxr.resample(samples.astype(np.float32) / 32768, RATE_HZ, TRUNK_HZ)
    return g711.encode((np.clip(resampled, -1, 1) * 32767).astype(np.int16))
