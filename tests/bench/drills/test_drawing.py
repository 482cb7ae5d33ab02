"""What the rounds of a drill are to be, by the seed alone."""

import random
from collections import Counter
from itertools import islice

from bench.drills.drawing import MOMENTS_S, RoundPlan, draw_rounds
from bench.drills.kinds import SPECS, DrillKind, PartitionShape

ALL = frozenset(DrillKind)
SEED = 7


def first(count: int, *, seed: int = SEED, kinds: frozenset[DrillKind] = ALL) -> list[RoundPlan]:
    return list(islice(draw_rounds(seed, kinds), count))


def test_a_seed_gives_the_same_rounds_again_and_another_one_others() -> None:
    assert first(200) == first(200)
    assert first(20) != first(20, seed=SEED + 1)
    # The order in which kinds are named, or a set keeps them, is no matter.
    again = draw_rounds(SEED, list(reversed(DrillKind)))
    assert list(islice(again, 20)) == first(20)


def test_nothing_but_the_seed_decides() -> None:
    """Neither what else draws at random meanwhile, nor how long a round took."""
    drawn = draw_rounds(SEED, ALL)
    rounds: list[RoundPlan] = []
    for _ in range(50):
        random.seed(len(rounds))
        rounds.append(next(drawn))
    assert rounds == first(50)
    assert [one.number for one in rounds] == list(range(50))


def test_these_are_the_rounds_of_seed_7() -> None:
    """A report names its seed: a release that draws others for it cannot repeat an earlier run."""
    found = [
        (one.kind.value, one.shape and one.shape.value, one.phase.value, round(one.delay_s, 3)) for one in first(5)
    ]
    assert found == [
        ("inference", None, "agent speaks", 1.627),
        ("asterisk", None, "pause", 0.023),
        ("worker", None, "agent speaks", 0.175),
        ("inference", None, "caller speaks", 0.946),
        ("worker", None, "greeting", 2.929),
    ]


def test_every_kind_comes_as_often_as_its_weight_says() -> None:
    count = Counter(one.kind for one in first(4000))
    whole = sum(spec.weight for spec in SPECS.values())
    for kind, spec in SPECS.items():
        assert abs(count[kind] / 4000 - spec.weight / whole) < 0.03


def test_a_partition_has_a_shape_and_nothing_else_has() -> None:
    rounds = first(500)
    assert {one.shape for one in rounds if one.kind is DrillKind.PARTITION} == set(PartitionShape)
    assert {one.shape for one in rounds if one.kind is not DrillKind.PARTITION} == {None}
    asked = islice(draw_rounds(SEED, {DrillKind.PARTITION}, PartitionShape.NATS), 20)
    assert {one.shape for one in asked} == {PartitionShape.NATS}


def test_moments_lie_where_a_turn_is() -> None:
    for one in first(500, kinds=frozenset({DrillKind.WORKER, DrillKind.NODE})):
        assert one.kind in {DrillKind.WORKER, DrillKind.NODE}
        assert 0 <= one.delay_s <= MOMENTS_S[one.phase]
