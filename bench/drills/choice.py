"""What a drill was asked for, and the kinds that are drawn in it."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.drills.errors import DrillImpossibleError, DrillRefusedError
from bench.drills.guard import refusals
from bench.drills.kinds import RANDOM, SPECS, DrillKind, PartitionShape, Promise, Victim
from bench.drills.region import DrillRegion

IMPOSSIBLE = "it cannot be done here"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillPlan:
    """What is to be run: one kind, or (`kind` None) those of `only` at random; all that the region can do without them.

    No round is begun after `times` of them, or after `for_s` seconds; `shape` is that of all partitions.
    """

    kind: DrillKind | None
    times: int
    seed: int
    at_once: int
    for_s: float | None = None
    shape: PartitionShape | None = None
    only: frozenset[DrillKind] = frozenset()

    @property
    def name(self) -> str:
        return self.kind.value if self.kind else RANDOM

    @property
    def what(self) -> str:
        return SPECS[self.kind].what if self.kind else "what a region can lose is taken away in a random order"

    @property
    def promise(self) -> Promise:
        """At random, each round is held against the promise of its kind."""
        return SPECS[self.kind].promise if self.kind else Promise(calls_lost=None)


async def drilled_kinds(region: DrillRegion, plan: DrillPlan) -> tuple[frozenset[DrillKind], Mapping[str, str]]:
    """The kinds of a drill; at random also those of all that are left out, and why.

    Raises DrillImpossibleError for what was asked for by name and cannot be done, DrillRefusedError where a guard says
    no to it, or to all.
    """
    reasons = await _reasons(region)
    if plan.kind is not None:
        _must_be_possible(region, plan.kind, reasons)
        return frozenset({plan.kind}), {}
    for kind in sorted(plan.only):
        _must_be_possible(region, kind, reasons)
    able = frozenset(kind for kind in plan.only or DrillKind if not reasons[kind])
    if not able:
        raise DrillRefusedError("; ".join(dict.fromkeys(reason for reason in reasons.values() if reason)))
    return able, {kind.value: reason for kind, reason in reasons.items() if kind not in able and reason}


async def _reasons(region: DrillRegion) -> dict[DrillKind, str]:
    """What speaks against each kind; empty: nothing."""
    possible, nodes = await region.possible(), await region.health()
    found: dict[DrillKind, str] = {}
    for kind, spec in SPECS.items():
        if kind not in possible:
            found[kind] = IMPOSSIBLE
            continue
        hub = await region.hub_troubles() if spec.victim is Victim.HUB else ()
        found[kind] = "; ".join(refusals(kind, spec, nodes, hub, is_rehearsal=region.is_rehearsal))
    return found


def _must_be_possible(region: DrillRegion, kind: DrillKind, reasons: Mapping[DrillKind, str]) -> None:
    if reasons[kind] == IMPOSSIBLE:
        able = ", ".join(sorted(one for one, reason in reasons.items() if reason != IMPOSSIBLE))
        raise DrillImpossibleError(f"{kind} cannot be run in {region.name}; what can: {able}")
    if reasons[kind]:
        raise DrillRefusedError(reasons[kind])
