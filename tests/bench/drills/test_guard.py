"""When a drill may not go on."""

import pytest

from bench.drills.guard import refusals
from bench.drills.kinds import SPECS, DrillKind
from bench.drills.region import NodeHealth


def node(name: str, *troubles: str, running_calls: int = 0, capacity: int = 8, workers: int = 2) -> NodeHealth:
    return NodeHealth(node=name, troubles=troubles, running_calls=running_calls, capacity=capacity, workers=workers)


def refused(kind: DrillKind, *nodes: NodeHealth, is_rehearsal: bool = False) -> list[str]:
    return refusals(kind, SPECS[kind], nodes, is_rehearsal=is_rehearsal)


@pytest.mark.parametrize("kind", DrillKind)
def test_a_whole_region_of_two_may_be_drilled(kind: DrillKind) -> None:
    assert refused(kind, node("a"), node("b")) == []


@pytest.mark.parametrize("kind", DrillKind)
def test_a_region_in_trouble_is_left_alone(kind: DrillKind) -> None:
    (reason,) = refused(kind, node("a"), node("b"), node("c", "calls-1 is not ready"))
    assert "c: calls-1 is not ready" in reason


def test_the_last_node_is_never_taken() -> None:
    for kind, spec in SPECS.items():
        assert bool(refused(kind, node("a"))) is spec.takes_node


def test_one_machine_may_lose_parts_of_its_only_node_but_not_the_node() -> None:
    assert refused(DrillKind.INFERENCE, node("a"), is_rehearsal=True) == []
    assert refused(DrillKind.NODE, node("a"), is_rehearsal=True) != []


def test_those_that_are_left_must_have_room() -> None:
    (reason,) = refused(DrillKind.NODE, node("a", running_calls=7), node("b"))
    assert "room for 8" in reason


def test_the_only_worker_of_a_node_is_not_killed() -> None:
    (reason,) = refused(DrillKind.WORKER, node("a", workers=1), node("b"))
    assert "sibling" in reason
