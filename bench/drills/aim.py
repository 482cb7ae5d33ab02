"""Whom a round strikes: the node its blow is aimed at, and the calls of ours that feel it. Pure."""

from collections.abc import Sequence

from bench.drills.drawing import RoundPlan
from bench.drills.errors import DrillRefusedError
from bench.drills.kinds import DrillKind, PartitionShape, Victim
from bench.drills.live_call import LiveCall, LiveCalls
from bench.drills.region import Blow

# Whatever is taken away comes back by itself this much after we should have put it back.
DEAD_MAN_AFTER_S = 60.0


def aims_at_holder(plan: RoundPlan) -> bool:
    """Whether the node is meant that has the region's address."""
    return plan.spec.victim is Victim.ADDRESS_HOLDER or plan.shape is PartitionShape.FRONT_DOOR


def blow_of(plan: RoundPlan, call: LiveCall, holder: str | None) -> Blow:
    """Raises DrillRefusedError where there is nobody to strike."""
    node = "" if plan.spec.victim is Victim.HUB else call.node
    if aims_at_holder(plan):
        if holder is None:
            raise DrillRefusedError("no node, or more than one, has the region's address")
        node = holder
    return Blow(
        kind=plan.kind,
        node=node,
        call_id=call.node_call_id,
        shape=plan.shape,
        ends_after_s=plan.spec.held_s + DEAD_MAN_AFTER_S,
    )


def calls_hit(
    plan: RoundPlan, call: LiveCall, blow: Blow, call_ids: Sequence[str], live_calls: LiveCalls
) -> list[LiveCall]:
    """The calls of ours that were hit: the worker's, the node's, or all where it is nobody's in particular."""
    live = list(live_calls.calls.values())
    if plan.kind is DrillKind.WORKER:
        return [one for one in live if one is call or one.node_call_id in call_ids]
    if plan.spec.victim is not Victim.CALL:
        return live
    # A call that was not found yet may be on any node.
    return [one for one in live if one.node in {blow.node, ""}]
