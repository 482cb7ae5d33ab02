"""After a drill: the region is whole, no call of ours runs. What is still held, and do all audit chains verify?"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.drills.errors import DrillHandError
from bench.drills.guard import troubles_of
from bench.drills.holdings import Holdings, comparison, leaks
from bench.drills.region import Chain, DrillRegion

WHOLE_WITHIN_S = 180.0
# Connections to a machine whose power was cut are given up when nobody has answered for two minutes.
SETTLED_WITHIN_S = 180.0
LOOK_EVERY_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Aftermath:
    """`leaks` and `audit` are what the report says; `missed`: what should not be so, in words."""

    leaks: Mapping[str, Any] = field(default_factory=dict)
    audit: Mapping[str, Any] = field(default_factory=dict)
    missed: tuple[str, ...] = ()


async def all_holdings(region: DrillRegion) -> dict[str, Holdings]:
    """What every node holds now. Raises DrillHandError."""
    found = await asyncio.gather(*(region.held(node) for node in region.nodes))
    return dict(zip(region.nodes, found, strict=True))


async def look_back(region: DrillRegion, before: Mapping[str, Holdings], hurry: asyncio.Event) -> Aftermath:
    """Give the region time to be whole and to let go, but none once `hurry` is set; then say what is left."""
    not_whole = await _until_whole(region, hurry)
    found, nodes = await _until_settled(region, before, hurry)
    chains = await region.chains()
    audit = _audit(chains, region.nodes)
    return Aftermath(
        leaks={"found": found, "nodes": nodes},
        audit=audit,
        missed=(*not_whole, *(f"left behind: {what}" for what in found), *audit["missed"]),
    )


async def _until_whole(region: DrillRegion, hurry: asyncio.Event) -> list[str]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + WHOLE_WITHIN_S
    while True:
        troubles = troubles_of(await region.health())
        if not troubles or hurry.is_set() or loop.time() > deadline:
            return [f"the region is not whole after the drill: {'; '.join(troubles)}"] if troubles else []
        await asyncio.sleep(LOOK_EVERY_S)


async def _until_settled(
    region: DrillRegion, before: Mapping[str, Holdings], hurry: asyncio.Event
) -> tuple[list[str], dict[str, Any]]:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SETTLED_WITHIN_S
    while True:
        found, nodes = await _look(region, before)
        if not found or hurry.is_set() or loop.time() > deadline:
            return found, nodes
        await asyncio.sleep(LOOK_EVERY_S)


async def _look(region: DrillRegion, before: Mapping[str, Holdings]) -> tuple[list[str], dict[str, Any]]:
    said = await asyncio.gather(*(region.held(node) for node in region.nodes), return_exceptions=True)
    found: list[str] = []
    nodes: dict[str, Any] = {}
    for node, now in zip(region.nodes, said, strict=True):
        if isinstance(now, DrillHandError):
            found.append(f"{node} could not be asked what it holds ({now})")
        elif isinstance(now, BaseException):
            raise now
        else:
            nodes[node] = comparison(before[node], now)
            found += [f"{node}: {what}" for what in leaks(before[node], now)]
    return found, nodes


def _audit(chains: tuple[Chain, ...], nodes: tuple[str, ...]) -> dict[str, Any]:
    """A hub that cannot be asked is said, and no miss: a region may be drilled by people who have no key to it."""
    missed = [
        f"audit chain of {one.name or 'records'} at {one.place}: {one.verdict} ({one.detail})"
        for one in chains
        if not one.is_whole and (one.was_asked or one.place in nodes)
    ]
    # A node that has had no call yet has no chain.
    if not any(one.is_whole and one.place in nodes for one in chains):
        missed.append("no audit chain of a node was verified")
    return {
        "verified": sum(one.is_whole for one in chains),
        "entries": sum(one.entries for one in chains),
        "missed": missed,
        "chains": [
            {
                "place": one.place,
                "name": one.name,
                "verdict": one.verdict,
                "entries": one.entries,
                "detail": one.detail,
            }
            for one in chains
        ],
    }
