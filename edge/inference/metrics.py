"""The metrics of the inference service: the queue in front of each model, read when somebody asks.

Queue and wait grow before callers hear anything: they are the leading indicators of a node's load.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.inference.gate import GateHealth

LABELS = ("kind", "model")

# Kind and name of a model, and the load of its gate.
ModelLoad = tuple[str, str, GateHealth]


@dataclass(slots=True)
class DoorCounts:
    """Requests of siblings since the start, by node, and those of nobody that was let in; whether they may ask."""

    served: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    is_open: bool = False


class DoorCollector(Collector):
    """Shows what siblings asked of this node."""

    def __init__(self, counts: DoorCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Also where siblings are not served."""
        served = CounterMetricFamily(
            "borough_inference_sibling_requests", "Requests of other nodes' call workers", labels=("node",)
        )
        for node, count in self._counts.served.items():
            served.add_metric((node,), count)
        refused = CounterMetricFamily(
            "borough_inference_sibling_refusals", "Requests of those who are no call workers of siblings"
        )
        refused.add_metric((), self._counts.refused)
        is_open = GaugeMetricFamily("borough_inference_sibling_door", "Whether siblings may ask", self._counts.is_open)
        yield from (served, refused, is_open)


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


def queue_registry(loads: Callable[[], Iterable[ModelLoad]], siblings: DoorCounts | None = None) -> CollectorRegistry:
    """A registry of its own, as every process of ours has."""
    registry = CollectorRegistry()
    registry.register(QueueCollector(loads))
    registry.register(DoorCollector(siblings or DoorCounts()))
    return registry


def _fates(health: GateHealth) -> Sequence[tuple[str, int]]:
    return (
        ("started", health.started),
        ("refused", health.refused),
        ("expired", health.expired),
        ("cancelled", health.cancelled),
    )
