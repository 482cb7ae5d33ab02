"""What the hub shows Prometheus of enrolment; docs/metrics.md describes each."""

from collections import Counter as Tally
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge

from contract.downlink_pb2 import NodeState
from controlplane.enrolment.nodes import Certificate, Node

ACCEPTED = "ok"
PREFIX = "NODE_STATE_"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentMetrics:
    """Counters and gauges; one for a process, made by `create`."""

    attempts: Counter
    barred: Counter
    nodes: Gauge
    certificate_until: Gauge
    authority_unavailable: Gauge

    @classmethod
    def create(cls, registry: CollectorRegistry) -> Self:
        """All of them, at zero."""
        return cls(
            attempts=Counter(
                "borough_hub_enrolment_attempts",
                "Requests of nodes by method (Enroll, Renew, Confirm) and outcome: ok, or an error's code",
                ["method", "outcome"],
                registry=registry,
            ),
            barred=Counter(
                "borough_hub_enrolment_barred",
                "Sources that were barred for a while after too many failed attempts",
                registry=registry,
            ),
            nodes=Gauge("borough_hub_nodes", "Enrolled nodes by state", ["region", "state"], registry=registry),
            certificate_until=Gauge(
                "borough_hub_node_certificate_until_timestamp_seconds",
                "When the first certificate in use of the node ends",
                ["region", "node"],
                registry=registry,
            ),
            authority_unavailable=Gauge(
                "borough_hub_authority_unavailable", "1 while the authority does not answer", registry=registry
            ),
        )

    def show(self, nodes: Iterable[Node], certificates: Iterable[Certificate]) -> None:
        """Bring the gauges up to date."""
        self.nodes.clear()
        tally = Tally((node.region, NodeState.Name(node.state).removeprefix(PREFIX).lower()) for node in nodes)
        for labels, number in tally.items():
            self.nodes.labels(*labels).set(number)
        self.certificate_until.clear()
        for (region, node), until_ms in first_ends(certificates).items():
            self.certificate_until.labels(region, node).set(until_ms / 1000)


def first_ends(certificates: Iterable[Certificate]) -> dict[tuple[str, str], int]:
    """When the first certificate in use of each node ends, in milliseconds since 1970."""
    ends: dict[tuple[str, str], int] = {}
    for one in certificates:
        if not one.is_staged:
            key = (one.region, one.node)
            ends[key] = min(one.not_after_ms, ends.get(key, one.not_after_ms))
    return ends
