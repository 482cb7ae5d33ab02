"""The metrics of the hub, in a registry of its own, served on loopback; docs/metrics.md describes each."""

import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest


@dataclass(frozen=True, slots=True, kw_only=True)
class HubMetrics:
    """Counters and gauges of an instance. Made by `create`; passed to who counts, never global."""

    registry: CollectorRegistry
    active: Gauge
    requests_refused: Counter
    bundles_published: Counter
    bundles_waiting: Gauge
    beats_failed: Counter
    states_refused: Counter
    state_refused_at: Gauge
    border_refusals: Counter
    border_log_skipped: Counter
    alarm: Gauge
    certificate_expires: Gauge
    replication_lag: Gauge
    replication_files: Gauge
    replication_bytes: Gauge

    @classmethod
    def create(cls) -> Self:
        """All metrics, at zero, in a fresh registry."""
        registry = CollectorRegistry()
        return cls(
            registry=registry,
            active=Gauge("borough_hub_active", "1 while this instance holds the lease", registry=registry),
            requests_refused=Counter(
                "borough_hub_requests_refused", "Admin requests that were refused", ["code"], registry=registry
            ),
            bundles_published=Counter(
                "borough_hub_bundles_published", "Bundles handed to NATS", ["region"], registry=registry
            ),
            bundles_waiting=Gauge("borough_hub_bundles_waiting", "Bundles not handed to NATS yet", registry=registry),
            beats_failed=Counter("borough_hub_beats_failed", "Beats that NATS did not store", registry=registry),
            states_refused=Counter(
                "borough_hub_states_refused",
                "Messages of nodes that said more than they may, by kind (health, ack, ping)",
                ["region", "kind"],
                registry=registry,
            ),
            state_refused_at=Gauge(
                "borough_hub_state_refused_timestamp_seconds",
                "When a message of the region was last refused",
                ["region"],
                registry=registry,
            ),
            border_refusals=Counter(
                "borough_hub_border_refusals",
                "Attempts refused at the hub, by kind",
                ["kind"],
                registry=registry,
            ),
            border_log_skipped=Counter(
                "borough_hub_border_log_skipped_bytes",
                "Bytes of the log of the hub's nats-server that were gone before they could be read",
                registry=registry,
            ),
            alarm=Gauge("borough_hub_alarm", "1 while the alarm is raised", ["code"], registry=registry),
            certificate_expires=Gauge(
                "borough_hub_certificate_expires_seconds",
                "Time until a certificate of the hub ends",
                ["role"],
                registry=registry,
            ),
            replication_lag=Gauge(
                "borough_hub_replication_lag_seconds",
                "Age of the oldest write that the replica of the hub's database lacks",
                registry=registry,
            ),
            replication_files=Gauge(
                "borough_hub_replication_files", "Files that arrived in the replica", registry=registry
            ),
            replication_bytes=Gauge(
                "borough_hub_replication_bytes", "Bytes that arrived in the replica", registry=registry
            ),
        )


@contextlib.asynccontextmanager
async def metrics_server(
    metrics: HubMetrics, host: str, port: int, is_active: Callable[[], bool]
) -> AsyncIterator[int]:
    """Serve /metrics, and /ready (200 while active, else 503), until the context ends; yields the port."""

    async def show(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def ready(_request: web.Request) -> web.Response:
        return web.Response(text="active\n") if is_active() else web.Response(text="waiting\n", status=503)

    app = web.Application()
    app.router.add_get("/ready", ready)
    app.router.add_get("/metrics", show)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
