"""How fast the hub's changes reach every node, and what they cost: policy, knowledge, bytes on the leaf links.

Runs against what `borough up` started, preferably `--regions in-south:2,eu-central:1`. Time is taken at the admin's
side: from the request to the hub until the last node has acknowledged (policy), or until a reader opened like a call
worker's gives the new answer on the last node (knowledge).
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from bench.catalogue import Catalogue, measure_retrieval
from bench.errors import RegionMissingError
from bench.hub import Hub
from bench.statistics import summarise
from bench.target import Target, hub_monitor_url, read_targets
from edge.inference.client import InferenceClient
from edge.knowledge.base import KnowledgeBase, open_replica
from edge.knowledge.replica import link_path
from provisioning.local.layout import StateLayout

TENANT = "bench-catalogue"
SOURCE = "catalogue"
DOCUMENTS = Path(__file__).parent / "catalogue.yaml"
WEEK_CHANGES = 300
LOOK_EVERY_S = 0.005
APPLIED_WITHIN_S = 30.0
FIRST_SNAPSHOT_WITHIN_S = 300.0
# Long enough to see what beats, pings and health cost the links when nothing else happens.
IDLE_S = 10.0

Progress = Callable[[int, int], None]


async def measure_sync(
    layout: StateLayout, *, items: int, rounds: int, progress: Progress, seed: int = 1
) -> dict[str, Any]:
    """The report of `borough bench sync`. Raises RegionMissingError, TimeoutError and what the admin API says."""
    targets = read_targets(layout)
    catalogue = Catalogue(items=items, seed=seed)
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(Hub(layout))
        inference = await stack.enter_async_context(InferenceClient(targets[0].inference_socket))
        regions = sorted({target.region for target in targets})
        await hub.apply({DOCUMENTS.name: DOCUMENTS.read_text(encoding="utf-8").replace("REGIONS", ", ".join(regions))})
        figures: dict[str, Any] = {"nodes": len(targets), "regions": len(regions)}
        figures |= await _first_snapshot(hub, catalogue, targets)
        bases = [
            await open_replica(link_path(target.sync / "knowledge", TENANT), [SOURCE], {}, inference, tenant=TENANT)
            for target in targets
        ]
        for base in bases:
            stack.callback(base.close)
        figures["policy_ack_ms"] = await _policy_acks(hub, targets, rounds, progress)
        figures["knowledge_fresh_ms"] = await _freshness(hub, catalogue, bases, rounds, progress)
        figures |= await _week(hub, catalogue, layout, bases)
        # The nodes share this machine's cores: what the others do about the week is no part of one node's retrieval.
        await asyncio.sleep(IDLE_S)
        figures |= await measure_retrieval(bases[0], catalogue, inference)
    return figures


async def _first_snapshot(hub: Hub, catalogue: Catalogue, targets: Sequence[Target]) -> dict[str, Any]:
    began = time.perf_counter()
    await hub.build(TENANT, SOURCE, catalogue.lines())
    built = time.perf_counter()
    reply = await hub.publish(TENANT, is_snapshot=True)
    published = time.perf_counter()
    await _until_known(hub, reply.version, len(targets), FIRST_SNAPSHOT_WITHIN_S)
    return {
        "items": catalogue.items,
        "snapshot_build_s": round(published - began, 2),
        "embedding_and_diff_s": round(built - began, 2),
        "snapshot_bytes": reply.content_bytes,
        "snapshot_on_all_nodes_s": round(time.perf_counter() - published, 2),
    }


async def _until_known(hub: Hub, version: int, nodes: int, within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while await _nodes_with_knowledge(hub, version) < nodes:
            await asyncio.sleep(0.2)


async def _nodes_with_knowledge(hub: Hub, version: int) -> int:
    return sum(
        any(one.tenant == TENANT and one.version >= version for one in node.health.knowledge)
        for region in await hub.fleet()
        for node in region.nodes
    )


async def _policy_acks(hub: Hub, targets: Sequence[Target], rounds: int, progress: Progress) -> dict[str, float]:
    text = await hub.document("Policy", TENANT, "catalogue")
    taken = []
    for number in range(rounds):
        changed = re.sub(r"answer: [0-9.]+", f"answer: {0.55 + (number % 2 + 1) / 100}", text)
        began = time.perf_counter()
        reply = await hub.apply({"policy.yaml": changed})
        wanted = {bundle.region: bundle.version for bundle in reply.bundles}
        if not wanted:
            raise RegionMissingError("the policy did not change: was it edited by hand?")
        async with asyncio.timeout(APPLIED_WITHIN_S):
            while not await _all_run(hub, wanted, len(targets)):
                await asyncio.sleep(LOOK_EVERY_S)
        taken.append((time.perf_counter() - began) * 1000)
        progress(number + 1, rounds)
    return _summary(taken)


async def _all_run(hub: Hub, wanted: dict[str, int], nodes: int) -> bool:
    running = [
        region.bundle_version >= wanted[region.region] and not node.is_drifted
        for region in await hub.fleet()
        if region.region in wanted
        for node in region.nodes
    ]
    return len(running) == nodes and all(running)


async def _freshness(
    hub: Hub, catalogue: Catalogue, bases: Sequence[KnowledgeBase], rounds: int, progress: Progress
) -> dict[str, float]:
    today = datetime.now(UTC).date()
    taken = []
    for number in range(rounds):
        item_id, line, answer = catalogue.changed(number)
        await hub.build(TENANT, SOURCE, [line], is_patch=True)
        began = time.perf_counter()
        await hub.publish(TENANT)
        async with asyncio.timeout(APPLIED_WITHIN_S):
            for base in bases:
                while (item := base.item(item_id, today)) is None or item.answer != answer:
                    await asyncio.sleep(LOOK_EVERY_S)
        taken.append((time.perf_counter() - began) * 1000)
        progress(number + 1, rounds)
    return _summary(taken)


async def _week(hub: Hub, catalogue: Catalogue, layout: StateLayout, bases: Sequence[KnowledgeBase]) -> dict[str, Any]:
    idle_from = await _leaf_bytes(layout)
    await asyncio.sleep(IDLE_S)
    before = await _leaf_bytes(layout)
    began = time.perf_counter()
    await hub.build(TENANT, SOURCE, catalogue.week(1, WEEK_CHANGES), is_patch=True)
    reply = await hub.publish(TENANT)
    async with asyncio.timeout(APPLIED_WITHIN_S):
        while any(base.version < reply.version for base in bases):
            await asyncio.sleep(LOOK_EVERY_S)
    took_s = time.perf_counter() - began
    sent = await _leaf_bytes(layout) - before
    idle_per_s = (before - idle_from) / IDLE_S
    return {
        "delta_items": WEEK_CHANGES,
        "delta_bytes": reply.content_bytes,
        "delta_is_snapshot": reply.is_snapshot,
        "leaf_bytes": round(sent - idle_per_s * took_s),
        "leaf_idle_bytes_per_s": round(idle_per_s),
    }


async def _leaf_bytes(layout: StateLayout) -> int:
    """Bytes over all leaf links of the hub so far, both ways."""
    async with aiohttp.ClientSession() as session, session.get(f"{hub_monitor_url(layout)}/leafz") as answer:
        leafs = (await answer.json())["leafs"]
    return sum(leaf["in_bytes"] + leaf["out_bytes"] for leaf in leafs)


def _summary(taken_ms: Sequence[float]) -> dict[str, float]:
    summary = summarise(taken_ms)
    assert summary is not None
    return asdict(summary)
