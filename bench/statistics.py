"""Figures from samples: percentiles and word error rates.

Percentiles are nearest-rank (the smallest sample with at least p percent of all samples at or below it): every
figure is one that really happened. With fewer than 100 samples P99 is the maximum, with fewer than 20 so is P95;
`Summary.count` is printed so that nobody reads more into them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Percentiles of a set of samples, in the samples' unit."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float


def percentile(samples: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile of a non-empty sequence; `percent` in (0, 100]."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def summarise(samples: Sequence[float]) -> Summary | None:
    """None when there is nothing to summarise."""
    if not samples:
        return None
    return Summary(
        count=len(samples),
        p50=percentile(samples, 50),
        p95=percentile(samples, 95),
        p99=percentile(samples, 99),
        max=max(samples),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class WordErrors:
    """Substituted, inserted and missing words against the words that were said."""

    errors: int
    words: int

    @property
    def rate(self) -> float | None:
        """None when nothing was said. May exceed 1: insertions count."""
        return self.errors / self.words if self.words else None


def word_errors(said: Sequence[str], heard: Sequence[str]) -> WordErrors:
    """Compare normalised words (`bench.words`)."""
    return WordErrors(errors=Levenshtein.distance(list(said), list(heard)), words=len(said))


def total(parts: Iterable[WordErrors]) -> WordErrors:
    """The errors of a corpus: weighted by words, not by files."""
    listed = list(parts)
    return WordErrors(errors=sum(part.errors for part in listed), words=sum(part.words for part in listed))
