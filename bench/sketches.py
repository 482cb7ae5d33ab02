"""Percentiles read from merged sketches, against the exact ones over all raw values of the same run.

Latencies drawn from several distributions with heavy tails, cut by
node and minute into sketches that go over the wire, merged, and compared with numpy's percentiles.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from contract.sketch import RELATIVE_ACCURACY, LatencySketch, sketch_of
from contract.uplink_pb2 import Sketch

SHARES = (0.5, 0.95, 0.99, 0.999)
Values = NDArray[np.float64]
DISTRIBUTIONS: Mapping[str, Callable[[np.random.Generator, int], Values]] = {
    "lognormal": lambda dice, size: dice.lognormal(5.6, 0.8, size),
    "pareto": lambda dice, size: 50 * (1 + dice.pareto(1.05, size)),
    "exponential": lambda dice, size: dice.exponential(300, size),
    "gamma_whole_ms": lambda dice, size: np.round(dice.gamma(2.0, 150.0, size)),
    "two_peaks": lambda dice, size: np.where(dice.random(size) < 0.97, dice.normal(250, 20, size), 4_000.0),
}


def merged_errors(*, values: int, nodes: int, minutes: int, seeds: int) -> dict[str, object]:
    """The largest relative error of each percentile over all seeds, by distribution; with what sketches cost."""
    began, sizes = time.perf_counter(), []
    worst: dict[str, dict[str, float]] = {}
    for name, draw in DISTRIBUTIONS.items():
        errors = dict.fromkeys((f"p{100 * share:g}" for share in SHARES), 0.0)
        for seed in range(seeds):
            raw = np.clip(draw(np.random.default_rng(seed), values), 0, None)
            total = LatencySketch()
            for part in np.array_split(raw, nodes * minutes):
                wire = sketch_of(part.tolist()).SerializeToString()
                sizes.append(len(wire))
                total.merge(Sketch.FromString(wire))
            _note_errors(errors, total, raw)
        worst[name] = {percentile: round(error, 6) for percentile, error in errors.items()}
    largest = max(error for errors in worst.values() for error in errors.values())
    return {
        "values": values,
        "nodes": nodes,
        "minutes": minutes,
        "seeds": seeds,
        "relative_accuracy": RELATIVE_ACCURACY,
        "largest_error": worst,
        "largest": largest,
        "within_one_percent": largest <= 0.01,
        "sketch_bytes": {"p50": float(np.percentile(sizes, 50)), "max": max(sizes)},
        "took_s": round(time.perf_counter() - began, 2),
    }


def errors_of(sketch: LatencySketch, raw: Sequence[float]) -> dict[str, float]:
    """Relative errors of the percentiles of one sketch against raw values."""
    errors = dict.fromkeys((f"p{100 * share:g}" for share in SHARES), 0.0)
    _note_errors(errors, sketch, np.asarray(raw, np.float64))
    return errors


def _note_errors(errors: dict[str, float], sketch: LatencySketch, raw: Values) -> None:
    exact = np.percentile(raw, [100 * share for share in SHARES])
    for percentile, found, wanted in zip(errors, sketch.quantiles(SHARES), exact, strict=True):
        error = abs(found - float(wanted)) / float(wanted) if wanted else abs(found)
        errors[percentile] = max(errors[percentile], error)
