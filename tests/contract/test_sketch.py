"""Sketches keep their accuracy through any merging, and agree with the library whose bins they use."""

import random

import numpy as np
import pytest
from ddsketch import DDSketch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from contract.sketch import BINS, LARGEST_VALUE, RELATIVE_ACCURACY, LatencySketch, count_of, sketch_of, upper_edge
from contract.uplink_pb2 import Sketch

SHARES = (0.0, 0.01, 0.25, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
DISTRIBUTIONS = ("lognormal", "pareto", "exponential", "uniform", "two_peaks", "whole_ms", "constant")


def draw(name: str, size: int, seed: int) -> NDArray[np.float64]:
    """Latencies in ms, with tails up to hours."""
    generator = np.random.default_rng(seed)
    values: NDArray[np.float64]
    match name:
        case "lognormal":
            values = generator.lognormal(5.6, 0.8, size)
        case "pareto":
            values = 50 * (1 + generator.pareto(1.05, size))
        case "exponential":
            values = generator.exponential(300, size)
        case "uniform":
            values = generator.uniform(0, 2000, size)
        case "two_peaks":
            values = np.where(generator.random(size) < 0.97, generator.normal(250, 20, size), 4000.0)
        case "whole_ms":
            values = np.round(generator.gamma(2.0, 2.0, size))
        case _:
            values = np.full(size, 137.0)
    return np.clip(values, 0, LARGEST_VALUE)


def merged(parts: list[NDArray[np.float64]]) -> LatencySketch:
    total = LatencySketch()
    for part in parts:
        wire = sketch_of(part.tolist()).SerializeToString()
        total.merge(Sketch.FromString(wire))
    return total


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("seed", range(6))
def test_percentiles_of_many_nodes_are_those_of_all_raw_values(name: str, seed: int) -> None:
    values = draw(name, 20_000, seed)
    cuts = sorted(random.Random(seed).sample(range(1, values.size), 40))  # noqa: S311 - no secret
    total = merged(np.split(values, cuts))
    assert total.count == values.size
    exact = np.percentile(values, [100 * share for share in SHARES])
    np.testing.assert_allclose(total.quantiles(SHARES), exact, rtol=RELATIVE_ACCURACY * 1.0001, atol=2e-3)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50])
def test_few_values_are_as_exact_as_many(size: int) -> None:
    values = draw("pareto", size, size)
    exact = np.percentile(values, [100 * share for share in SHARES])
    np.testing.assert_allclose(merged([values]).quantiles(SHARES), exact, rtol=RELATIVE_ACCURACY * 1.0001)


@given(st.lists(st.lists(st.floats(0, LARGEST_VALUE), max_size=20), min_size=1, max_size=6))
def test_merging_is_the_same_as_counting_everything_at_once(parts: list[list[float]]) -> None:
    total = LatencySketch()
    for part in parts:
        total.merge(sketch_of(part))
    at_once = sketch_of([value for part in parts for value in part])
    message = total.message()
    assert (message.zeros, message.first_bin, message.counts) == (at_once.zeros, at_once.first_bin, at_once.counts)
    assert (message.minimum, message.maximum) == (at_once.minimum, at_once.maximum)
    assert message.sum == pytest.approx(at_once.sum)


@given(st.lists(st.floats(1.0, LARGEST_VALUE), min_size=1, max_size=60))
def test_bins_are_those_of_the_library(values: list[float]) -> None:
    theirs = DDSketch(RELATIVE_ACCURACY)
    for value in values:
        theirs.add(value)
    ours = merged([np.array(values)])
    ranks = [rank / max(1, len(values) - 1) for rank in range(len(values))]
    expected = [theirs.get_quantile_value(rank) for rank in ranks]
    assert ours.quantiles(ranks) == pytest.approx(expected, rel=2 * RELATIVE_ACCURACY)


def test_the_number_of_bins_is_bounded_by_the_range_of_values() -> None:
    extreme = sketch_of([0.0, 1e-9, 1e-3, LARGEST_VALUE, 1e30, -5.0])
    assert count_of(extreme) == 6
    assert len(extreme.counts) <= BINS < 2_600
    assert extreme.zeros == 3
    assert extreme.maximum == LARGEST_VALUE
    assert len(extreme.SerializeToString()) < 3_000


def test_values_lie_within_the_edges_of_their_bin() -> None:
    for value in (0.002, 1.0, 1.5, 320.0, 86_000.0):
        sketch = sketch_of([value])
        assert upper_edge(sketch.first_bin - 1) < value <= upper_edge(sketch.first_bin) * (1 + 1e-12)


def test_a_sketch_of_zeros_or_nothing_survives_the_wire() -> None:
    for values in ([], [0.0, 0.0]):
        total = LatencySketch()
        total.merge(Sketch.FromString(sketch_of(values).SerializeToString()))
        assert total.count == len(values)
        assert total.quantiles([0.5]) == [0.0]


def test_bins_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        LatencySketch().merge(Sketch(first_bin=5000, counts=[1]))
