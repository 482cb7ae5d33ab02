"""What the hub shows Prometheus of all regions. The number of series is bounded: beyond it tenants share one label."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

from prometheus_client import CollectorRegistry, Counter, Gauge

from contract.uplink_pb2 import Rollup
from controlplane.rollups.capacity import NodeCapacity

# Pairs of region and tenant that are shown apart. Each has 4 outcomes, 2 counters, and 24 percentiles.
PAIRS_SHOWN = 500
OTHER_TENANTS = "_others"
MS_A_SECOND = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyRow:
    """Percentiles of one stage, for the newest hour of a region's tenant. Milliseconds."""

    region: str
    tenant: str
    stage: str
    values_ms: Sequence[tuple[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupMetrics:
    """Counters and gauges; one for a process, made by `create`."""

    rollups: Counter
    calls: Counter
    turns: Counter
    silent: Counter
    latency: Gauge
    refused_alarm: Gauge
    slots: Gauge
    slots_used_peak: Gauge
    calls_refused: Gauge
    _pairs: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def create(cls, registry: CollectorRegistry) -> Self:
        """All of them, at zero."""
        return cls(
            rollups=Counter(
                "borough_hub_rollups", "Rollups of the regions, by what became of them", ["outcome"], registry=registry
            ),
            calls=Counter("borough_hub_calls", "Calls that ended", ["region", "tenant", "outcome"], registry=registry),
            turns=Counter("borough_hub_turns", "Committed turns", ["region", "tenant"], registry=registry),
            silent=Counter(
                "borough_hub_silent_replies", "Replies without any sound", ["region", "tenant"], registry=registry
            ),
            latency=Gauge(
                "borough_hub_latency_seconds",
                "Percentiles of the newest hour",
                ["region", "tenant", "stage", "quantile"],
                registry=registry,
            ),
            refused_alarm=Gauge(
                "borough_hub_rollup_refused_timestamp_seconds",
                "When a rollup of the region was last refused",
                ["region"],
                registry=registry,
            ),
            slots=Gauge("borough_hub_slots", "Calls that a node can take", ["region", "node"], registry=registry),
            slots_used_peak=Gauge(
                "borough_hub_slots_used_peak", "Most in use in the newest hour", ["region", "node"], registry=registry
            ),
            calls_refused=Gauge(
                "borough_hub_calls_refused", "Refused in the newest hour", ["region", "node"], registry=registry
            ),
        )

    def count_rollup(self, rollup: Rollup) -> None:
        """Count the calls and turns of a rollup that was counted for the first time."""
        for entry in rollup.entries:
            pair = self._pair(rollup.region, entry.tenant)
            calls = entry.calls
            outcomes = {
                "contained": calls.contained,
                "escalated": sum(calls.escalated.values()),
                "abandoned": calls.abandoned,
                "failed": calls.failed,
            }
            for outcome, number in outcomes.items():
                if number:
                    self.calls.labels(*pair, outcome).inc(number)
            self.turns.labels(*pair).inc(entry.turns.total)
            self.silent.labels(*pair).inc(entry.turns.silent)

    def show_latencies(self, rows: Iterable[LatencyRow]) -> None:
        """Replace all percentiles; tenants without a series of their own have none."""
        self.latency.clear()
        for row in rows:
            if self._pair(row.region, row.tenant) == (row.region, row.tenant):
                for quantile, value_ms in row.values_ms:
                    self.latency.labels(row.region, row.tenant, row.stage, quantile).set(value_ms / MS_A_SECOND)

    def show_capacity(self, nodes: Iterable[NodeCapacity]) -> None:
        """Replace what is shown of all nodes; those that told nothing in the newest hour are not shown."""
        for gauge in (self.slots, self.slots_used_peak, self.calls_refused):
            gauge.clear()
        for node in nodes:
            self.slots.labels(node.region, node.node).set(node.slots)
            self.slots_used_peak.labels(node.region, node.node).set(node.used_peak)
            self.calls_refused.labels(node.region, node.node).set(node.refused)

    def _pair(self, region: str, tenant: str) -> tuple[str, str]:
        pair = (region, tenant)
        if pair in self._pairs or len(self._pairs) < PAIRS_SHOWN:
            self._pairs.add(pair)
            return pair
        return region, OTHER_TENANTS
