"""What the rounds of a drill are to be: drawn from the seed alone, whatever the region does. Pure."""

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from bench.drills.kinds import SPECS, DrillKind, KindSpec, PartitionShape
from bench.drills.live_call import TurnPhase

# Where a turn may stand at the blow, and how much later than its beginning.
MOMENTS_S = {
    TurnPhase.GREETING: 3.0,
    TurnPhase.CALLER_SPEAKS: 1.5,
    TurnPhase.AGENT_THINKS: 0.4,
    TurnPhase.AGENT_SPEAKS: 2.5,
    TurnPhase.PAUSE: 0.4,
}
BETWEEN_ROUNDS_S = (1.0, 6.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """One round: what is done, `delay_s` after a call has entered `phase`; `pause_s` until the next one."""

    number: int
    kind: DrillKind
    shape: PartitionShape | None
    phase: TurnPhase
    delay_s: float
    pause_s: float

    @property
    def spec(self) -> KindSpec:
        return SPECS[self.kind]


def draw_rounds(seed: int, kinds: Collection[DrillKind], shape: PartitionShape | None = None) -> Iterator[RoundPlan]:
    """Rounds without end; the same ones for the same arguments. `shape`: of all partitions; None: drawn."""
    drawn = random.Random(seed)  # noqa: S311 - moments, not secrets
    # In the order of the enumeration: a set has none.
    possible = [kind for kind in DrillKind if kind in kinds]
    weights = [SPECS[kind].weight for kind in possible]
    number = 0
    while True:
        yield _draw(drawn, number, drawn.choices(possible, weights)[0], shape)
        number += 1


def _draw(drawn: random.Random, number: int, kind: DrillKind, shape: PartitionShape | None) -> RoundPlan:
    # Always, so that what follows does not depend on who asked for a shape.
    drawn_shape, phase = drawn.choice(list(PartitionShape)), drawn.choice(list(MOMENTS_S))
    return RoundPlan(
        number=number,
        kind=kind,
        shape=(shape or drawn_shape) if kind is DrillKind.PARTITION else None,
        phase=phase,
        delay_s=drawn.uniform(0.0, MOMENTS_S[phase]),
        pause_s=drawn.uniform(*BETWEEN_ROUNDS_S),
    )
