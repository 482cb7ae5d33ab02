"""Metrics are counted per process, served to scrapers and described to operators."""

import asyncio
import time

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from edge.observability.loop_lag import EventLoopLag
from edge.observability.metrics import CallMetrics, metrics_route
from edge.records.model import TurnTimings


def test_two_sets_of_metrics_do_not_share_counts() -> None:
    one, two = CallMetrics.create(), CallMetrics.create()
    one.turns.inc()
    assert two.registry.get_sample_value("borough_turns_total") == 0


async def test_a_scraper_reads_what_was_counted() -> None:
    metrics = CallMetrics.create()
    metrics.calls.labels(outcome="contained", transport="sip").inc()
    metrics.observe_turn(TurnTimings(pause_seen_ms=64, sent_ms=210))
    app = web.Application()
    app.add_routes([metrics_route(metrics)])
    async with TestClient(TestServer(app)) as client:
        text = await (await client.get("/metrics")).text()
    assert 'borough_calls_total{outcome="contained",transport="sip"} 1.0' in text
    assert 'borough_response_seconds_sum{stage="sent"} 0.21' in text
    assert 'stage="understand"' not in text
    assert "borough_turns_total 1.0" in text


async def test_a_blocked_loop_shows_as_lag() -> None:
    metrics = CallMetrics.create()
    async with EventLoopLag(metrics.loop_lag_p95, interval_s=0.01) as lag:
        assert lag.p95_s == 0.0
        for _ in range(3):
            await asyncio.sleep(0.002)
            time.sleep(0.05)  # noqa: ASYNC251 - the stall that the sampler has to see
        await asyncio.sleep(0.02)
        assert lag.p95_s > 0.02
    assert (metrics.registry.get_sample_value("borough_event_loop_lag_p95_seconds") or 0) > 0.02
