"""The metrics of the inference service: the queue in front of each model, read when somebody asks.

Queue and wait grow before callers hear anything: they are the leading indicators of a node's load.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.inference.gate import GateHealth

LABELS = ("kind", "model")

# Kind and name of a model, and the load of its gate.
ModelLoad = tuple[str, str, GateHealth]


class QueueCollector(Collector):
    """Shows what `loads` tells at the moment of the question."""

    def __init__(self, loads: Callable[[], Iterable[ModelLoad]]) -> None:
        self._loads = loads

    def collect(self) -> Iterator[Metric]:
        """One family each, also while no model is loaded."""
        queued = GaugeMetricFamily("borough_inference_queued", "Requests that wait for a model", labels=LABELS)
        running = GaugeMetricFamily("borough_inference_running", "Requests that a model works on", labels=LABELS)
        waited = GaugeMetricFamily(
            "borough_inference_queue_wait_p95_seconds",
            "95th percentile of the wait of the newest 512 requests",
            labels=LABELS,
        )
        work = CounterMetricFamily(
            "borough_inference_requests", "Requests by what became of them", labels=(*LABELS, "fate")
        )
        for kind, model, health in self._loads():
            queued.add_metric((kind, model), health.queued)
            running.add_metric((kind, model), health.running)
            waited.add_metric((kind, model), health.waited_p95_s)
            for fate, count in _fates(health):
                work.add_metric((kind, model, fate), count)
        yield from (queued, running, waited, work)


def queue_registry(loads: Callable[[], Iterable[ModelLoad]]) -> CollectorRegistry:
    """A registry of its own, as every process of ours has."""
    registry = CollectorRegistry()
    registry.register(QueueCollector(loads))
    return registry


def _fates(health: GateHealth) -> Sequence[tuple[str, int]]:
    return (
        ("started", health.started),
        ("refused", health.refused),
        ("expired", health.expired),
        ("cancelled", health.cancelled),
    )
