"""Latency sketches (uplink.proto, Sketch): parameters that both ends must share, and their arithmetic.

Bins are DDSketch's logarithmic mapping. None is ever collapsed: collapsing would lose the accuracy of one tail. The
number of bins is bounded by the range of values instead, of which durations of calls need a part only.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from ddsketch.mapping import LogarithmicMapping

from contract.uplink_pb2 import Sketch

# Percentiles read from merged sketches are promised within 1 % of the exact ones; this keeps them within half of it.
RELATIVE_ACCURACY = 0.005
# Ten equal bins of confidence.
CONFIDENCE_BINS = 10
# Milliseconds. Below a microsecond is zero; above a day is a day.
SMALLEST_VALUE = 1e-3
LARGEST_VALUE = 86_400_000.0

_MAPPING = LogarithmicMapping(RELATIVE_ACCURACY)
FIRST_BIN: int = _MAPPING.key(SMALLEST_VALUE)
LAST_BIN: int = _MAPPING.key(LARGEST_VALUE)
# About 2,500; a day's latencies of a tenant use a few hundred.
BINS = LAST_BIN - FIRST_BIN + 1
# Bin i holds the values above `upper_edge(i - 1)` up to `upper_edge(i)`.
GAMMA: float = _MAPPING.gamma


class LatencySketch:
    """A sketch that grows: values and whole sketches are added, percentiles are read. Values are milliseconds."""

    def __init__(self) -> None:
        self._first = 0
        # Lists and not arrays: most sketches have some hundred bins, of which a few are used.
        self._counts: list[int] = []
        self._zeros = 0
        self._sum = 0.0
        self._minimum = float("inf")
        self._maximum = 0.0

    @property
    def count(self) -> int:
        """How many values it has seen."""
        return self._zeros + sum(self._counts)

    @property
    def maximum(self) -> float:
        """The largest value, exactly; 0 without any."""
        return self._maximum

    def add(self, value: float) -> None:
        """Count one value; negative ones count as zero."""
        value = min(max(value, 0.0), LARGEST_VALUE)
        if value < SMALLEST_VALUE:
            self._zeros += 1
        else:
            index = _MAPPING.key(value)
            self._cover(index, index + 1)
            self._counts[index - self._first] += 1
        self._sum += value
        self._minimum = min(self._minimum, value)
        self._maximum = max(self._maximum, value)

    def merge(self, sketch: Sketch) -> None:
        """Add all values of another sketch. Raises ValueError for bins that cannot be."""
        first, counts = sketch.first_bin, list(sketch.counts)
        if not counts and not sketch.zeros:
            return
        if counts:
            if first < FIRST_BIN or first + len(counts) - 1 > LAST_BIN:
                raise ValueError(f"bins from {first} on are outside the range of a sketch")
            self._cover(first, first + len(counts))
            mine = self._counts
            for index, count in enumerate(counts, first - self._first):
                if count:
                    mine[index] += count
        self._zeros += sketch.zeros
        self._sum += sketch.sum
        self._minimum = min(self._minimum, sketch.minimum)
        self._maximum = max(self._maximum, sketch.maximum)

    def message(self) -> Sketch:
        """The sketch for the wire or the disk."""
        if not self._counts and not self._zeros:
            return Sketch()
        return Sketch(
            zeros=self._zeros,
            first_bin=self._first,
            counts=self._counts,
            sum=self._sum,
            minimum=self._minimum,
            maximum=self._maximum,
        )

    def quantiles(self, wanted: Sequence[float]) -> list[float]:
        """Values at these shares (0 to 1), between neighbouring values by rank as `numpy.percentile` does it; zeros
        without any value. Each is within RELATIVE_ACCURACY of the exact one."""
        running = list(accumulate(self._counts, initial=self._zeros))
        total = running[-1]
        if not total:
            return [0.0] * len(wanted)
        return [self._between(running, share * (total - 1)) for share in wanted]

    def _cover(self, first: int, end: int) -> None:
        """Have bins from `first` up to `end`."""
        if not self._counts:
            self._first, self._counts = first, [0] * (end - first)
            return
        if first < self._first:
            self._counts[:0] = [0] * (self._first - first)
            self._first = first
        missing = end - self._first - len(self._counts)
        if missing > 0:
            self._counts += [0] * missing

    def _between(self, running: Sequence[int], rank: float) -> float:
        below = int(rank)
        low, high = self._at(running, below), self._at(running, min(below + 1, running[-1] - 1))
        return min(max(low + (high - low) * (rank - below), self._minimum), self._maximum)

    def _at(self, running: Sequence[int], rank: int) -> float:
        if rank < self._zeros:
            return 0.0
        return float(_MAPPING.value(bisect_right(running, rank) - 1 + self._first))


def sketch_of(values: Sequence[float]) -> Sketch:
    """The sketch of some values."""
    sketch = LatencySketch()
    for value in values:
        sketch.add(value)
    return sketch.message()


def count_of(sketch: Sketch) -> int:
    """How many values a sketch has seen."""
    return sketch.zeros + sum(sketch.counts)


def upper_edge(index: int) -> float:
    """The largest value of a bin."""
    return float(GAMMA**index)
