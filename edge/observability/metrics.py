"""The metrics of one process, in a registry of its own; docs/metrics.md describes each to operators."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from edge.records.model import TurnTimings

# Confidence is a probability; the bands of policies lie on tenths.
CONFIDENCE_BUCKETS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# What calls were about is named by documents; further names share one, so that a flood of documents is no flood of
# series.
INTENTS_SHOWN = 200
OTHER_INTENTS = "_others"
# Seconds. Dense around the promises (320 ms median, 700 ms at the 99th percentile).
LATENCY_BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.32, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.5, 2.0, 4.0, 8.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallMetrics:
    """Counters and histograms of a worker. Made by `create`; passed to who counts, never global."""

    registry: CollectorRegistry
    calls: Counter
    calls_active: Gauge
    calls_refused: Counter
    calls_adopted: Counter
    adoptions_refused: Counter
    adoption: Histogram
    session_told: Histogram
    sessions_failed: Counter
    ring_backs: Counter
    ring_back_look: Histogram
    siblings: Gauge
    siblings_ended: Counter
    call_intents: Counter
    turns: Counter
    silent_replies: Counter
    confidence: Histogram
    response_stage: Histogram
    first_audio: Histogram
    barge_ins: Counter
    frames_dropped: Counter
    inference_wait: Histogram
    slots_used: Gauge
    slots_capacity: Gauge
    watchdog_firings: Counter
    ari_reconnects: Counter
    leftovers_ended: Counter
    records_failed: Counter
    loop_lag_p95: Gauge
    _intents: set[str] = field(default_factory=set)

    @classmethod
    def create(cls) -> Self:
        """All metrics, at zero, in a fresh registry."""
        registry = CollectorRegistry()

        def counter(name: str, text: str, labels: Sequence[str] = ()) -> Counter:
            return Counter(f"borough_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"borough_{name}", text, registry=registry)

        def histogram(
            name: str, text: str, labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_BUCKETS_S
        ) -> Histogram:
            return Histogram(f"borough_{name}", text, labels, buckets=buckets, registry=registry)

        return cls(
            registry=registry,
            calls=counter("calls", "Calls that ended", ("outcome", "transport")),
            calls_active=gauge("calls_active", "Calls in progress in this process"),
            calls_refused=counter("calls_refused", "Calls refused before they were answered", ("reason",)),
            calls_adopted=counter("calls_adopted", "Calls of dead workers that this one goes on with", ("phase",)),
            adoptions_refused=counter(
                "adoptions_refused", "Calls of dead workers that nobody could go on with", ("reason",)
            ),
            adoption=histogram("adoption_seconds", "From a worker's death to the audio of its calls being back"),
            session_told=histogram("session_told_seconds", "From a committed turn to the region knowing of it"),
            sessions_failed=counter(
                "sessions_failed", "Times the region could not be told where a call stands", ("reason",)
            ),
            ring_backs=counter("ring_backs", "Callers who may have been cut off and rang back, by result", ("result",)),
            ring_back_look=histogram("ring_back_look_seconds", "Time a caller rings for the look at cut-off calls"),
            siblings=gauge("siblings", "Other workers of this node, which would go on with the calls of this one"),
            siblings_ended=counter("siblings_ended", "Workers that hung and were ended by a sibling"),
            call_intents=counter("call_intents", "Calls that ended, by what they were about", ("intent", "outcome")),
            turns=counter("turns", "Committed turns"),
            silent_replies=counter("silent_replies", "Replies for which synthesis gave no sound"),
            confidence=histogram(
                "confidence", "How sure understanding was of what callers said", ("tenant",), CONFIDENCE_BUCKETS
            ),
            response_stage=histogram("response_seconds", "Response latency by stage", ("stage",)),
            first_audio=histogram("first_audio_seconds", "From answering to the agent's first audio"),
            barge_ins=counter("barge_ins", "Callers who spoke over the agent, by verdict", ("verdict",)),
            frames_dropped=counter("frames_dropped", "Audio frames dropped by a full queue", ("direction",)),
            inference_wait=histogram("inference_wait_seconds", "Wait for a model, queueing included", ("model",)),
            slots_used=gauge("slots_used", "Slots of this node that are taken"),
            slots_capacity=gauge("slots_capacity", "Slots that this node has"),
            watchdog_firings=counter("watchdog_firings", "Stuck calls that a watchdog moved on", ("watchdog",)),
            ari_reconnects=counter("ari_reconnects", "Times the connection to Asterisk was made again"),
            leftovers_ended=counter(
                "leftovers_ended", "Channels and bridges in Asterisk that no call had any more", ("kind",)
            ),
            records_failed=counter("records_failed", "Records that could not be written", ("code",)),
            loop_lag_p95=gauge("event_loop_lag_p95_seconds", "95th percentile of the event loop's lateness"),
        )

    def observe_turn(self, timings: TurnTimings, *, is_silent: bool = False) -> None:
        """Count one committed turn and put its stages into the latency histogram."""
        self.turns.inc()
        self.silent_replies.inc(int(is_silent))
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

    def observe_end(self, *, outcome: str, transport: str, intent: str) -> None:
        """Count one call that ended; `intent` is the last one that was acted on."""
        self.calls.labels(outcome=outcome, transport=transport).inc()
        self.call_intents.labels(intent=self._shown(intent), outcome=outcome).inc()

    def _shown(self, intent: str) -> str:
        if intent in self._intents or len(self._intents) < INTENTS_SHOWN:
            self._intents.add(intent)
            return intent
        return OTHER_INTENTS


def metrics_route(metrics: CallMetrics) -> web.RouteDef:
    """`GET /metrics` for the process's aiohttp application."""

    async def show(request: web.Request) -> web.Response:  # noqa: ARG001
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return web.get("/metrics", show)
