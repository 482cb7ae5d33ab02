"""When a drill may not go on: asked before it begins and before every round. Pure."""

from collections.abc import Sequence

from bench.drills.kinds import DrillKind, KindSpec
from bench.drills.region import NodeHealth

LEAST_HEALTHY = 2
LEAST_WORKERS = 2
# What is left must have room for the calls that run, and some more.
ROOM_SHARE = 0.8


def troubles_of(nodes: Sequence[NodeHealth]) -> list[str]:
    """What keeps nodes from serving, in words."""
    return [f"{node.node}: {trouble}" for node in nodes for trouble in node.troubles]


def refusals(
    kind: DrillKind, spec: KindSpec, nodes: Sequence[NodeHealth], hub: Sequence[str] = (), *, is_rehearsal: bool
) -> list[str]:
    """Every reason not to do it now, in words; none: it may be done. `hub`: what keeps the hub from serving.

    In a rehearsal on one machine nobody but us calls, so that a single node may lose its inference or its disk.
    """
    troubles = troubles_of(nodes)
    healthy = [node for node in nodes if node.is_healthy]
    found = [f"the region is not whole: {'; '.join(troubles)}"] if troubles else []
    takes_node = spec.takes_node and not (is_rehearsal and kind is not DrillKind.NODE)
    if takes_node and len(healthy) < LEAST_HEALTHY:
        found.append(f"{len(healthy)} healthy node(s); a drill that takes one needs at least {LEAST_HEALTHY}")
    if takes_node and len(healthy) >= LEAST_HEALTHY:
        found += _no_room(healthy)
    if kind is DrillKind.WORKER:
        found += [
            f"{node.node} has {node.workers} worker(s); its calls need a sibling"
            for node in nodes
            if node.workers < LEAST_WORKERS
        ]
    return [*found, *(f"the hub: {trouble}" for trouble in hub)]


def _no_room(healthy: Sequence[NodeHealth]) -> list[str]:
    """Whether the smaller region could carry the calls of all."""
    running = sum(node.running_calls for node in healthy)
    left = sum(node.capacity for node in healthy) - max(node.capacity for node in healthy)
    if running <= left * ROOM_SHARE:
        return []
    return [f"{running} calls run, and the nodes that are left have room for {left}"]
