"""Metrics of the authority, in a registry of its own, served on loopback."""

import contextlib
from collections import Counter as Tally
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from provisioning.identity.store import Entry, State


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityMetrics:
    """Made by `create`, passed to who counts."""

    registry: CollectorRegistry
    requests: Counter
    certificates: Gauge

    @classmethod
    def create(cls) -> Self:
        """All at zero, in a fresh registry."""
        registry = CollectorRegistry()
        return cls(
            registry=registry,
            requests=Counter(
                "borough_authority_requests",
                "Requests to the authority, by method and by error code (ok: done)",
                ["method", "code"],
                registry=registry,
            ),
            certificates=Gauge(
                "borough_authority_certificates", "Certificates ever made, by state", ["state"], registry=registry
            ),
        )

    def tell(self, entries: Iterable[Entry]) -> None:
        """Count the index anew."""
        tally = Tally(entry.state for entry in entries)
        for state in State:
            self.certificates.labels(state).set(tally[state])


@contextlib.asynccontextmanager
async def metrics_server(metrics: AuthorityMetrics, host: str, port: int) -> AsyncIterator[int]:
    """Serve /metrics until the context ends; gives the port. Raises OSError."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/metrics", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
