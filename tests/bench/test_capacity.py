"""The search for the highest good concurrency finds it, in few measurements."""

from hypothesis import given
from hypothesis import strategies as st

from bench.capacity import Point, find_capacity


def point(concurrency: int, *, is_good: bool) -> Point:
    p99_ms = 900 if is_good else 1500
    return Point(concurrency=concurrency, calls=1, dropped=0, unanswered_turns=0, p50_ms=300, p95_ms=400, p99_ms=p99_ms)


@given(st.integers(min_value=0, max_value=200), st.integers(min_value=1, max_value=128))
def test_the_highest_good_concurrency_is_found(capacity: int, at_most: int) -> None:
    """Whatever the capacity, it is found to an eighth, with a logarithm of measurements and none repeated."""
    asked: list[int] = []

    def measure(concurrency: int) -> Point:
        asked.append(concurrency)
        return point(concurrency, is_good=concurrency <= capacity)

    found, points = find_capacity(measure, at_most=at_most)
    truth = min(capacity, at_most)
    assert 0 <= truth - found < max(1, found // 8)
    assert len(asked) == len(set(asked)) == len(points) <= 16
    assert max(asked) <= at_most


def test_a_dropped_call_and_silence_are_not_good() -> None:
    """A fast node that drops calls, or one that answers nobody, has no capacity."""
    fields = {"concurrency": 1, "calls": 1, "unanswered_turns": 0, "p50_ms": 1, "p95_ms": 1}
    assert not Point(dropped=1, p99_ms=1, **fields).is_good
    assert not Point(dropped=0, p99_ms=None, **fields).is_good
