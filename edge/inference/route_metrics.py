"""Metrics of a call worker: who answered its requests to models, and how it is with each endpoint."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.inference.breaker import BreakerState
from edge.inference.endpoint import Endpoint
from edge.inference.hedging import Work
from edge.inference.racing import Standing

_STATES = {BreakerState.CLOSED: 0, BreakerState.PROBING: 1, BreakerState.OPEN: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointState:
    """Of one endpoint."""

    name: str
    is_up: bool
    breakers: Mapping[Work, BreakerState]
    trips: Mapping[Work, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteCounts:
    """Since the start."""

    served: Counter[tuple[str, Work]]
    hedges: Counter[tuple[Work, str]]
    failovers: Counter[tuple[Work, str]]
    endpoints: Sequence[EndpointState]

    @classmethod
    def of(cls, standing: Standing, endpoints: Sequence[Endpoint]) -> Self:
        return cls(
            served=standing.served.copy(),
            hedges=standing.hedges.copy(),
            failovers=standing.failovers.copy(),
            endpoints=[
                EndpointState(
                    name=endpoint.name,
                    is_up=endpoint.is_connected and not endpoint.is_hung,
                    breakers={work: breaker.state for work, breaker in endpoint.breakers.items()},
                    trips={work: breaker.trips for work, breaker in endpoint.breakers.items()},
                )
                for endpoint in endpoints
            ],
        )


class RouteCollector(Collector):
    """Shows what `counts` tells at the moment of the question."""

    def __init__(self, counts: Callable[[], RouteCounts]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """One family each, also before the first request."""
        counts = self._counts()
        served = _counter("answers", "Requests to models by who answered", ("endpoint", "work"))
        for (endpoint, work), count in counts.served.items():
            served.add_metric((endpoint, work), count)
        hedges = _counter("hedges", "Second requests because the first was slow", ("work", "fate"))
        for (work, fate), count in counts.hedges.items():
            hedges.add_metric((work, fate), count)
        failovers = _counter("failovers", "Requests that were put to another endpoint", ("work", "reason"))
        for (work, reason), count in counts.failovers.items():
            failovers.add_metric((work, reason), count)
        yield from (served, hedges, failovers, *_of_endpoints(counts.endpoints))


def _of_endpoints(endpoints: Sequence[EndpointState]) -> Iterator[Metric]:
    up = GaugeMetricFamily("borough_inference_endpoint_up", "Whether an endpoint answers", labels=("endpoint",))
    state = GaugeMetricFamily(
        "borough_inference_breaker", "0 closed, 1 one request tries, 2 open", labels=("endpoint", "work")
    )
    trips = _counter("breaker_trips", "Times a breaker opened", ("endpoint", "work"))
    for endpoint in endpoints:
        up.add_metric((endpoint.name,), int(endpoint.is_up))
        for work in Work:
            state.add_metric((endpoint.name, work), _STATES[endpoint.breakers[work]])
            trips.add_metric((endpoint.name, work), endpoint.trips[work])
    yield from (up, state, trips)


def _counter(name: str, text: str, labels: Sequence[str]) -> CounterMetricFamily:
    return CounterMetricFamily(f"borough_inference_{name}", text, labels=labels)
