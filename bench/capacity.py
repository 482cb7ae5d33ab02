"""Finds how many calls a node carries at once with good latency: doubles until it fails, then bisects.

Pure: asks a function for the figures of one concurrency.
"""

from collections.abc import Callable
from dataclasses import dataclass

P99_LIMIT_MS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """The figures at one concurrency. `p99_ms` is None when no turn was answered."""

    concurrency: int
    calls: int
    dropped: int
    unanswered_turns: int
    p50_ms: int | None
    p95_ms: int | None
    p99_ms: int | None

    @property
    def is_good(self) -> bool:
        """P99 within the limit, no call refused or dropped."""
        return self.dropped == 0 and self.p99_ms is not None and self.p99_ms <= P99_LIMIT_MS


def find_capacity(measure: Callable[[int], Point], *, at_most: int, at_least: int = 1) -> tuple[int, tuple[Point, ...]]:
    """The highest good concurrency (0 when `at_least` is not) and every point measured, in order of concurrency.

    Found to an eighth: the machine's noise is larger than that.
    """
    points: dict[int, Point] = {}

    def is_good(concurrency: int) -> bool:
        points[concurrency] = measure(concurrency)
        return points[concurrency].is_good

    good, bad, tried = 0, at_most + 1, at_least
    while tried < bad:
        if is_good(tried):
            good = tried
            # Never past the end of the range, but the end itself is tried.
            tried = min(tried * 2, at_most) if tried < at_most else bad
        else:
            bad = tried
    while good >= at_least and bad - good > max(1, good // 8):
        middle = (good + bad) // 2
        if is_good(middle):
            good = middle
        else:
            bad = middle
    return good, tuple(points[concurrency] for concurrency in sorted(points))
