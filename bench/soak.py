"""Many short calls in a row, and what they leave behind: memory, descriptors, threads, channels, bridges, slots.

Growth is counted from a point after the first calls (caches fill, pools open) to the end, so that warming up is not
taken for a leak, and a leak not for warming up.
"""

import asyncio
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import aiohttp

from bench.caller import CallPlan
from bench.errors import RegionMissingError
from bench.processes import family, usage_of
from bench.run import CALLER_NUMBERS_FROM, new_run_directory, run_calls
from bench.scenario import Scenario
from bench.target import Target, read_target
from edge.call.slots import SlotLedger

WARM_UP_SHARE = 0.2
# SIP keeps a finished call for 32 s (RFC 3261, timers H and J); only then its memory is free.
SETTLE_S = 35.0
# Python and malloc keep pages that they may use again; 500 leaked calls would hold far more.
MEMORY_GROWTH_BYTES = 8 * 1024 * 1024
DESCRIPTOR_GROWTH = 4
REQUEST_TIMEOUT_S = 10.0

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What one service of the node holds, its children included."""

    name: str
    pid: int
    resident_bytes: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the node holds at one moment."""

    services: tuple[Service, ...]
    channels: int | None
    bridges: int | None
    slots_in_use: int

    @property
    def is_idle(self) -> bool:
        """Nothing of any call is left."""
        return not self.channels and not self.bridges and self.slots_in_use == 0


async def _return_free_memory(asterisk_pid: int) -> None:
    """Have Asterisk give back what malloc keeps of freed memory (its command `malloc trim`): what is left is in use."""
    inside = ("nsenter", "--target", str(asterisk_pid), "--mount", "--pid", "--root")
    command = (*inside, "/usr/sbin/asterisk", "-C", "/srv/etc/asterisk.conf", "-rx", "malloc trim")
    trimming = await asyncio.create_subprocess_exec(*command, stdout=DEVNULL, stderr=DEVNULL)
    async with asyncio.timeout(REQUEST_TIMEOUT_S):
        await trimming.wait()


async def snapshot(target: Target) -> Snapshot:
    """Look at the node now."""
    if target.processes.asterisk is not None:
        await _return_free_memory(target.processes.asterisk)
    return Snapshot(
        services=tuple(_service(name, pid) for name, pid in _roots(target)),
        channels=await _count(target, "channels"),
        bridges=await _count(target, "bridges"),
        slots_in_use=SlotLedger(directory=target.slots, capacity=target.capacity).in_use(),
    )


async def soak(target: Target, calls: int, concurrency: int, progress: Progress) -> dict[str, Any]:
    """Place the calls and compare; the report of `borough bench soak`."""
    directory = new_run_directory(target)
    plans = short_calls(target, calls)
    first = max(1, round(calls * WARM_UP_SHARE))
    before = await snapshot(target)
    warm_up = await run_calls(target, plans[:first], concurrency, directory / "warm-up", progress)
    await asyncio.sleep(SETTLE_S)
    warm = await snapshot(target)
    main = await run_calls(target, plans[first:], concurrency, directory / "main", progress) if plans[first:] else None
    await asyncio.sleep(SETTLE_S)
    after = await snapshot(read_target(target.state))
    traces = [*warm_up.traces, *(main.traces if main else ())]
    return {
        "calls": len(traces),
        "answered": sum(trace.answered_after_s is not None for trace in traces),
        "greeted": sum(trace.is_script_done for trace in traces),
        "passed": not growth(warm, after) and all(trace.is_script_done for trace in traces),
        "growth": growth(warm, after),
        "before": asdict(before),
        "after_warm_up": asdict(warm),
        "after": asdict(after),
    }


def growth(warm: Snapshot, after: Snapshot) -> list[str]:
    """Everything that grew more than it may, in words."""
    found = (
        []
        if after.is_idle
        else [f"left: {after.channels} channels, {after.bridges} bridges, {after.slots_in_use} slots"]
    )
    earlier = {service.name: service for service in warm.services}
    for service in after.services:
        old = earlier.get(service.name)
        if old is None or old.pid != service.pid:
            found.append(f"{service.name} was restarted")
            continue
        if service.resident_bytes - old.resident_bytes > MEMORY_GROWTH_BYTES:
            found.append(f"{service.name}: memory {old.resident_bytes} -> {service.resident_bytes} bytes")
        if service.descriptors - old.descriptors > DESCRIPTOR_GROWTH:
            found.append(f"{service.name}: descriptors {old.descriptors} -> {service.descriptors}")
        if service.threads - old.threads > DESCRIPTOR_GROWTH:
            found.append(f"{service.name}: threads {old.threads} -> {service.threads}")
    return found


def short_calls(target: Target, count: int) -> tuple[CallPlan, ...]:
    """Calls that hang up once the agent is heard, to every number in turn."""
    if target.sip is None:
        raise RegionMissingError("the running region has no SIP trunk (Asterisk cannot be installed here)")
    numbers = list(target.numbers.items())
    plans = []
    for index in range(count):
        number, tenant = numbers[index % len(numbers)]
        plans.append(
            CallPlan(
                call_id=f"soak-{index:06}",
                seed=index,
                destination=f"sip:{number}@{target.sip[0]}:{target.sip[1]}",
                caller_number=f"+{CALLER_NUMBERS_FROM + index}",
                scenario=Scenario(tenant=tenant, id="short", tags=(), lines=()),
                lines=(),
                is_recorded=False,
            )
        )
    return tuple(plans)


def _roots(target: Target) -> Sequence[tuple[str, int]]:
    processes = target.processes
    named = [("asterisk", processes.asterisk), ("inference", processes.inference)]
    workers = [(f"calls-{index}", pid) for index, pid in enumerate(processes.calls, start=1)]
    return [(name, pid) for name, pid in [*named, *workers] if pid is not None]


def _service(name: str, pid: int) -> Service:
    usages = [usage for member in family([pid]) if (usage := usage_of(member)) is not None]
    return Service(
        name=name,
        pid=pid,
        resident_bytes=sum(usage.resident_bytes for usage in usages),
        descriptors=sum(usage.descriptors for usage in usages),
        threads=sum(usage.threads for usage in usages),
    )


async def _count(target: Target, kind: str) -> int | None:
    if target.ari is None:
        return None
    headers = {"Authorization": aiohttp.encode_basic_auth(target.ari.user, target.ari.password)}
    timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
    async with (
        aiohttp.ClientSession(headers=headers, timeout=timeout, raise_for_status=True) as session,
        session.get(f"{target.ari.url}/{kind}") as answer,
    ):
        return len(await answer.json())
