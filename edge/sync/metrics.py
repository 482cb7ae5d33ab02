"""The metrics of the node agent; docs/metrics.md describes each to operators."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncMetrics:
    """Counters and gauges of the agent, in a registry of its own."""

    registry: CollectorRegistry
    bundle_version: Gauge
    knowledge_version: Gauge
    beat_age: Gauge
    hub_round_trip: Gauge
    heals: Counter
    rollups_waiting: Gauge
    rollups_sent: Counter
    border_refusals: Counter
    border_log_skipped: Counter

    @classmethod
    def create(cls) -> Self:
        """All metrics, at zero, in a fresh registry."""
        registry = CollectorRegistry()
        return cls(
            registry=registry,
            bundle_version=Gauge("borough_bundle_version", "Bundle that this node runs", registry=registry),
            knowledge_version=Gauge(
                "borough_knowledge_version", "Knowledge version that this node runs", ("tenant",), registry=registry
            ),
            beat_age=Gauge(
                "borough_beat_age_seconds",
                "Age of the newest beat of a mirrored stream",
                ("stream",),
                registry=registry,
            ),
            hub_round_trip=Gauge(
                "borough_hub_round_trip_seconds", "Round trip of the last ping to the hub's services", registry=registry
            ),
            heals=Counter("borough_heals", "Attempts at healing the way from the hub", ("step",), registry=registry),
            rollups_waiting=Gauge(
                "borough_rollups_waiting", "Rollups that the hub has not stored yet", registry=registry
            ),
            border_refusals=Counter(
                "borough_border_refusals", "Attempts refused at the border", ("kind",), registry=registry
            ),
            border_log_skipped=Counter(
                "borough_border_log_skipped_bytes",
                "Bytes of the log of the node's nats-server that were gone before they could be read",
                registry=registry,
            ),
            rollups_sent=Counter("borough_rollups_sent", "Rollups that the hub has stored", registry=registry),
        )


@asynccontextmanager
async def serving(metrics: SyncMetrics, host: str, port: int) -> AsyncIterator[None]:
    """Serve /metrics and /ready inside the block."""

    async def show(request: web.Request) -> web.Response:  # noqa: ARG001
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def ready(request: web.Request) -> web.Response:  # noqa: ARG001
        return web.json_response({"ready": True})

    app = web.Application()
    app.add_routes([web.get("/metrics", show), web.get("/ready", ready)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()
