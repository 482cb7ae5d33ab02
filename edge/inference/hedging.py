"""When a slow request is worth a second one elsewhere, and how many may be. Pure.

A second request is sent once the first has waited longer than 99 of 100 did lately, within bounds for each kind of
work. All second requests together stay below HEDGED_SHARE of the requests: a region that is slow because it is
overloaded must not be given more to do.
"""

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

HEDGED_SHARE = 0.05
# Saved up in quiet times: as many as a breaker needs to open, and some.
MOST_SAVED = 5.0
_KEPT = 512
# Below this the percentile is a guess, and `initial_s` is a better one.
_ENOUGH = 30
# How often the percentile is looked up anew, in answers.
_EVERY = 16


class Work(StrEnum):
    """What an endpoint is asked for."""

    RECOGNISE = "recognise"
    SYNTHESISE = "synthesise"
    GENERATE = "generate"
    EMBED = "embed"


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayBounds:
    """How long a first answer is waited for before it counts as slow (seconds)."""

    least_s: float
    initial_s: float
    most_s: float


# Answers take 0.1-0.2 s, 0.07 s, 0.06 s and 0.003 s on an idle core, a few times that on a busy node. The upper bounds
# leave a second request room in the 1.5 s that a caller may wait for longer than usual.
BOUNDS = {
    Work.RECOGNISE: DelayBounds(least_s=0.25, initial_s=0.6, most_s=0.8),
    Work.SYNTHESISE: DelayBounds(least_s=0.15, initial_s=0.4, most_s=0.6),
    Work.GENERATE: DelayBounds(least_s=0.25, initial_s=0.5, most_s=0.8),
    Work.EMBED: DelayBounds(least_s=0.05, initial_s=0.15, most_s=0.3),
}


@dataclass(slots=True)
class FirstAnswers:
    """How long first answers to one kind of work took lately."""

    bounds: DelayBounds
    _waits_s: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _added: int = 0
    _percentile_s: float = 0.0

    def add(self, wait_s: float) -> None:
        """Take note of an answer, or of how long one was waited for in vain."""
        self._waits_s.append(wait_s)
        self._added += 1
        if self._added == _ENOUGH or self._added % _EVERY == 0:
            waits = sorted(self._waits_s)
            self._percentile_s = waits[int(0.99 * (len(waits) - 1))]

    def slow_after_s(self) -> float:
        """How long an answer may take before it counts as slow."""
        if self._added < _ENOUGH:
            return self.bounds.initial_s
        return min(max(self._percentile_s, self.bounds.least_s), self.bounds.most_s)


@dataclass(slots=True)
class HedgeBudget:
    """Second requests that may be sent: HEDGED_SHARE of all first ones, MOST_SAVED at once."""

    _saved: float = MOST_SAVED

    def earn(self) -> None:
        """A first request was sent."""
        self._saved = min(MOST_SAVED, self._saved + HEDGED_SHARE)

    def spend(self) -> bool:
        """Whether a second one may be sent; it is counted."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True
