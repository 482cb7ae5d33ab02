"""The bench of sketches measures what it says."""

import numpy as np
import pytest

from bench.sketches import DISTRIBUTIONS, errors_of, merged_errors
from contract.sketch import LatencySketch


def test_merged_percentiles_of_every_distribution_are_within_one_percent() -> None:
    report = merged_errors(values=5_000, nodes=4, minutes=10, seeds=2)
    assert report["within_one_percent"] is True
    largest = report["largest_error"]
    assert isinstance(largest, dict)
    assert set(largest) == set(DISTRIBUTIONS)


def test_a_sketch_of_other_values_shows_its_error() -> None:
    sketch = LatencySketch()
    for value in np.linspace(100, 200, 1_000):
        sketch.add(float(value))
    assert errors_of(sketch, list(np.linspace(110, 220, 1_000)))["p50"] == pytest.approx(1 / 11, rel=0.05)
