"""Cuts the hub off under calls, restarts a node meanwhile, and counts what was lost afterwards.

Two ways of being cut off: the hub's processes are dead (`hub`), or its NATS is stopped in its tracks so that every
connection stays up and nothing comes through (`leaf`). Calls go to every node that is not being restarted. When the
hub is back, what it counted is compared with the nodes' records and, rollup by rollup, with their ledgers.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import aiohttp

from bench.caller import CallPlan, CallTrace
from bench.errors import RegionMissingError
from bench.ledgers import CallCounts, compare_counts, compare_rollups, count_calls, is_complete
from bench.report import is_dropped
from bench.run import RunOptions, line_cache, make_plans, new_run_directory, run_calls
from bench.scenario import Scenario
from bench.target import Target, read_targets
from controlplane.cli.connection import HubUnreachableError
from edge.call.slots import SlotLedger
from provisioning.local.layout import StateLayout
from provisioning.local.services import find_service, services, start_service, stop_service

CONCURRENCY = 2
# A different call each; the voices and lines repeat.
PLANS = 40
SETTLE_S = 15.0
HUB_COMPLETE_WITHIN_S = 240.0
NODE_BACK_WITHIN_S = 120.0
LOOK_EVERY_S = 0.5
# Within which a running call of the node that will be restarted ends.
CALL_ENDS_WITHIN_S = 120.0


class Cut(StrEnum):
    """How the hub is cut off."""

    HUB = "hub"
    LEAF = "leaf"


@dataclass(frozen=True, slots=True, kw_only=True)
class CutPlan:
    """How, and for how long."""

    cut: Cut
    minutes: float


@dataclass(slots=True)
class _Course:
    """What happens when; shared by the callers and the one who cuts."""

    open_nodes: list[Target]
    is_over: bool = False

    def plans(self, prepared: Sequence[CallPlan]) -> Iterator[CallPlan]:
        """Calls to the open nodes in turn, until it is over."""
        count = 0
        while not self.is_over:
            plan = prepared[count % len(prepared)]
            target = self.open_nodes[count % len(self.open_nodes)]
            assert target.sip is not None
            host, port = target.sip
            user = plan.destination.partition("@")[0]
            yield replace(plan, call_id=f"cut-{count:08}", destination=f"{user}@{host}:{port}")
            count += 1


async def measure_autonomy(
    layout: StateLayout, scenarios: Sequence[Scenario], plan: CutPlan, progress: Callable[[int, int], None]
) -> dict[str, Any]:
    """Cut the hub off under calls; the report of `borough bench autonomy`. Raises RegionMissingError."""
    targets = read_targets(layout)
    if len(targets) < 2:
        raise RegionMissingError("two nodes are needed: `borough up --regions in-south:2`")
    options = RunOptions(calls=PLANS, concurrency=CONCURRENCY)
    prepared = make_plans(targets[0], scenarios, options, line_cache(targets[0]), progress)
    before = await count_calls(layout, targets)
    course = _Course(open_nodes=list(targets))
    directory = new_run_directory(targets[0])
    async with asyncio.TaskGroup() as group:
        calling = run_calls(targets[0], course.plans(prepared), CONCURRENCY, directory, progress)
        run_task = group.create_task(calling, name="bench:calls")
        try:
            timeline = await _cut_off(layout, targets, course, plan)
        finally:
            course.is_over = True
    traces = run_task.result().traces
    complete_after_s = await _until_complete(layout, targets, before)
    after = await count_calls(layout, targets)
    failed = [trace for trace in traces if _has_failed(trace)]
    return {
        "cut": plan.cut.value,
        "minutes": plan.minutes,
        "calls": len(traces),
        "calls_failed": len(failed),
        "failures": [f"{one.plan.call_id} {one.ending} cause {one.cause} {one.problems}" for one in failed[:10]],
        "timeline_s": timeline,
        "hub_complete_after_s": complete_after_s,
        **compare_counts(before, after),
        **await asyncio.to_thread(compare_rollups, layout, targets),
    }


async def _cut_off(layout: StateLayout, targets: Sequence[Target], course: _Course, plan: CutPlan) -> dict[str, float]:
    """Cut, wait, restart the second node in the middle, wait, mend; returns when what happened."""
    clock = asyncio.get_running_loop().time
    began = clock()
    timeline: dict[str, float] = {}
    await asyncio.sleep(SETTLE_S)
    timeline["cut"] = round(clock() - began, 1)
    mend = _cut(layout, plan.cut)
    try:
        await asyncio.sleep(plan.minutes * 60 / 2)
        victim = targets[1]
        course.open_nodes.remove(victim)
        await _until_idle(victim)
        timeline["node_killed"] = round(clock() - began, 1)
        _kill_node(layout, victim.node)
        course.open_nodes.append(await _until_back(layout, victim))
        timeline["node_back"] = round(clock() - began, 1)
        await asyncio.sleep(plan.minutes * 60 / 2)
    finally:
        mend()
    timeline["mended"] = round(clock() - began, 1)
    await asyncio.sleep(SETTLE_S)
    return timeline


def _cut(layout: StateLayout, cut: Cut) -> Callable[[], None]:
    """Cut the hub off; returns what mends it."""
    if cut is Cut.LEAF:
        pid = find_service(layout, "hub/nats").pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        return lambda: os.kill(pid, signal.SIGCONT)
    stopped = [service for service in services(layout) if service.place == layout.hub.root.name]
    for service in stopped:
        stop_service(service, signal.SIGKILL)

    def mend() -> None:
        for service in stopped:
            start_service(service)

    return mend


def _kill_node(layout: StateLayout, node: str) -> None:
    for service in services(layout):
        if service.place == node and service.pid is not None:
            os.kill(service.pid, signal.SIGKILL)


async def _until_idle(target: Target) -> None:
    ledger = SlotLedger(directory=target.slots, capacity=target.capacity)
    async with asyncio.timeout(CALL_ENDS_WITHIN_S):
        while ledger.in_use():
            await asyncio.sleep(LOOK_EVERY_S)


async def _until_back(layout: StateLayout, target: Target) -> Target:
    """Wait until every service of the node lives again and its workers are ready."""
    async with asyncio.timeout(NODE_BACK_WITHIN_S), aiohttp.ClientSession() as session:
        for url in target.metrics:
            while not await _is_ready(session, url.replace("/metrics", "/ready")):
                await asyncio.sleep(LOOK_EVERY_S)
    return next(one for one in read_targets(layout) if one.node == target.node)


async def _is_ready(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == HTTPStatus.OK
    except aiohttp.ClientError:
        return False


async def _until_complete(layout: StateLayout, targets: Sequence[Target], before: CallCounts) -> float | None:
    """Seconds until the hub had counted every call that the nodes recorded; None when it did not in time."""
    clock = asyncio.get_running_loop().time
    began = clock()
    while clock() - began < HUB_COMPLETE_WITHIN_S:
        with contextlib.suppress(HubUnreachableError):
            now = await count_calls(layout, targets)
            if is_complete(before, now):
                return round(clock() - began, 1)
        await asyncio.sleep(LOOK_EVERY_S)
    return None


def _has_failed(trace: CallTrace) -> bool:
    return trace.answered_after_s is None or is_dropped(trace)
