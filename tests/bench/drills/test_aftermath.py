"""After a drill: what is left is waited for, and said."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from bench.drills import aftermath
from bench.drills.aftermath import all_holdings, look_back
from bench.drills.errors import DrillHandError
from bench.drills.holdings import Holdings, ServiceHoldings
from bench.drills.local_region import LocalRegion
from bench.drills.region import WHOLE, Chain, NodeHealth
from provisioning.local.layout import StateLayout

NODES = ("a-1", "a-2")
WORKER = ServiceHoldings(main=7, started=100, served_s=900.0, processes=1, resident_bytes=1, opened={})
IDLE = Holdings(slots=0, channels=0, bridges=0, run_files=3, sessions=0, services={"borough-calls@1": WORKER})
CHAINS = tuple(Chain(place=node, name="bank", verdict=WHOLE, entries=4) for node in NODES)
NOT_ASKED = Chain(place="hub-1", name="", verdict="not asked", was_asked=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told(LocalRegion):
    """A region that says what it is told to, one answer of `later` after the other; then it is idle."""

    later: Iterator[Holdings | DrillHandError] = field(default_factory=lambda: iter(()))
    verified: Sequence[Chain] = CHAINS
    troubles: Iterator[tuple[str, ...]] = field(default_factory=lambda: iter(()))

    @property
    def nodes(self) -> tuple[str, ...]:
        return NODES

    async def health(self) -> tuple[NodeHealth, ...]:
        return (NodeHealth(node=NODES[0], troubles=next(self.troubles, ())),)

    async def held(self, node: str) -> Holdings:
        said = next(self.later, IDLE) if node == NODES[0] else IDLE
        if isinstance(said, DrillHandError):
            raise said
        return said

    async def chains(self) -> tuple[Chain, ...]:
        return tuple(self.verified)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aftermath, "LOOK_EVERY_S", 0.0)


def told(
    *later: Holdings | DrillHandError, verified: Sequence[Chain] = CHAINS, troubles: Sequence[tuple[str, ...]] = ()
) -> Told:
    layout = StateLayout(Path("/nowhere"))
    return Told(layout=layout, targets=(), later=iter(later), verified=verified, troubles=iter(troubles))


async def after(region: Told, *, is_hurried: bool = False) -> aftermath.Aftermath:
    hurry = asyncio.Event()
    if is_hurried:
        hurry.set()
    return await look_back(region, dict.fromkeys(NODES, IDLE), hurry)


async def test_what_ends_a_moment_later_is_no_leak() -> None:
    busy, silent = replace(IDLE, slots=1, channels=2), DrillHandError("no answer")
    found = await after(told(busy, silent, busy, troubles=[("starting",)]))
    assert found.missed == ()
    assert found.leaks["found"] == []
    assert found.leaks["nodes"]["a-1"]["channels"] == [0, 0]
    assert (found.audit["verified"], found.audit["entries"]) == (2, 8)


async def test_what_stays_is_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aftermath, "SETTLED_WITHIN_S", 0.05)
    monkeypatch.setattr(aftermath, "LOOK_EVERY_S", 0.01)
    found = await after(told(*[replace(IDLE, bridges=1)] * 100))
    assert found.missed == ("left behind: a-1: 1 bridges held",)


async def test_who_aborted_does_not_wait() -> None:
    found = await after(told(replace(IDLE, slots=1), troubles=[("starting",)]), is_hurried=True)
    assert found.missed == (
        "the region is not whole after the drill: a-1: starting",
        "left behind: a-1: 1 slots held",
    )


async def test_a_chain_that_does_not_verify_is_named() -> None:
    broken = Chain(place="a-2", name="bank", verdict="BROKEN", entries=4, detail="first broken entry 2")
    unasked = Chain(place="a-1", name="", verdict="not asked", detail="no answer", was_asked=False)
    found = await after(told(verified=(unasked, broken, NOT_ASKED)))
    assert found.missed == (
        "audit chain of records at a-1: not asked (no answer)",
        "audit chain of bank at a-2: BROKEN (first broken entry 2)",
        "no audit chain of a node was verified",
    )


async def test_a_hub_that_cannot_be_asked_is_said_and_no_miss() -> None:
    found = await after(told(verified=(*CHAINS, NOT_ASKED)))
    assert found.missed == ()
    assert found.audit["chains"][-1]["verdict"] == "not asked"


async def test_every_node_is_looked_at_before() -> None:
    assert await all_holdings(told()) == dict.fromkeys(NODES, IDLE)
