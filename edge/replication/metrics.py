"""The metrics of the replication service; docs/metrics.md describes each to operators."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationMetrics:
    """Gauges of the service, in a registry of its own."""

    registry: CollectorRegistry
    lag: Gauge
    uploads: Gauge
    upload_bytes: Gauge

    @classmethod
    def create(cls) -> Self:
        """All metrics, at zero, in a fresh registry."""
        registry = CollectorRegistry()
        return cls(
            registry=registry,
            lag=Gauge(
                "borough_replication_lag_seconds",
                "Age of the oldest write that the replica lacks",
                ("bucket",),
                registry=registry,
            ),
            uploads=Gauge("borough_replication_files", "Files that arrived in the replicas", registry=registry),
            upload_bytes=Gauge("borough_replication_bytes", "Bytes that arrived in the replicas", registry=registry),
        )

    def show(self, lags: Mapping[str, float], uploads: tuple[int, int]) -> None:
        """Bring the gauges up to date."""
        for bucket, lag_s in lags.items():
            self.lag.labels(bucket=bucket).set(lag_s)
        self.uploads.set(uploads[0])
        self.upload_bytes.set(uploads[1])

    def route(self, path: str = "/metrics") -> web.RouteDef:
        """`GET /metrics` for an aiohttp application."""

        async def show(request: web.Request) -> web.Response:  # noqa: ARG001
            return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

        return web.get(path, show)
