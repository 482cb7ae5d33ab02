"""The metrics of one process, in a registry of its own; docs/metrics.md describes each to operators."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from edge.records.model import TurnTimings

# Seconds. Dense around the promises (320 ms median, 700 ms at the 99th percentile).
LATENCY_BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.32, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.5, 2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallMetrics:
    """Counters and histograms of a worker. Made by `create`; passed to who counts, never global."""

    registry: CollectorRegistry
    calls: Counter
    calls_active: Gauge
    calls_refused: Counter
    turns: Counter
    response_stage: Histogram
    first_audio: Histogram
    barge_ins: Counter
    frames_dropped: Counter
    inference_wait: Histogram
    slots_used: Gauge
    slots_capacity: Gauge
    watchdog_firings: Counter
    ari_reconnects: Counter
    records_failed: Counter
    loop_lag_p95: Gauge

    @classmethod
    def create(cls) -> Self:
        """All metrics, at zero, in a fresh registry."""
        registry = CollectorRegistry()

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(f"borough_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"borough_{name}", text, registry=registry)

        def histogram(name: str, text: str, labels: Sequence[str] = ()) -> Histogram:
            return Histogram(f"borough_{name}", text, labels, buckets=LATENCY_BUCKETS_S, registry=registry)

        return cls(
            registry=registry,
            calls=counter("calls", "Calls that ended", ("outcome", "transport")),
            calls_active=gauge("calls_active", "Calls in progress in this process"),
            calls_refused=counter("calls_refused", "Calls refused before they were answered", ("reason",)),
            turns=counter("turns", "Committed turns"),
            response_stage=histogram("response_seconds", "Response latency by stage", ("stage",)),
            first_audio=histogram("first_audio_seconds", "From answering to the agent's first audio"),
            barge_ins=counter("barge_ins", "Callers who spoke over the agent, by verdict", ("verdict",)),
            frames_dropped=counter("frames_dropped", "Audio frames dropped by a full queue", ("direction",)),
            inference_wait=histogram("inference_wait_seconds", "Wait for a model, queueing included", ("model",)),
            slots_used=gauge("slots_used", "Slots of this node that are taken"),
            slots_capacity=gauge("slots_capacity", "Slots that this node has"),
            watchdog_firings=counter("watchdog_firings", "Stuck calls that a watchdog moved on", ("watchdog",)),
            ari_reconnects=counter("ari_reconnects", "Times the connection to Asterisk was made again"),
            records_failed=counter("records_failed", "Records that could not be written", ("code",)),
            loop_lag_p95=gauge("event_loop_lag_p95_seconds", "95th percentile of the event loop's lateness"),
        )

    def observe_turn(self, timings: TurnTimings) -> None:
        """Count one committed turn and put its stages into the latency histogram."""
        self.turns.inc()
        stages = {
            "pause_seen": timings.pause_seen_ms,
            "recognise_queue": timings.recognise_queue_ms,
            "recognise_compute": timings.recognise_compute_ms,
            "understand": timings.understand_ms,
            "audio_ready": timings.audio_ready_ms,
            "sent": timings.sent_ms,
        }
        for stage, took_ms in stages.items():
            if took_ms is not None:
                self.response_stage.labels(stage=stage).observe(took_ms / 1000)


def metrics_route(metrics: CallMetrics) -> web.RouteDef:
    """`GET /metrics` for the process's aiohttp application."""

    async def show(request: web.Request) -> web.Response:  # noqa: ARG001
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return web.get("/metrics", show)
