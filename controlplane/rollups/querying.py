"""Adds entries up to what people ask: a row for each region and tenant, or for each intent too. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from contract.rollups import EntrySum
from contract.sketch import LatencySketch
from contract.uplink_pb2 import Calls, Sketch, Turns
from controlplane.rollups.metrics import LatencyRow
from controlplane.rollups.store import StoredEntry

PERCENTILES = (0.5, 0.95, 0.99)
STAGES = (
    "response_ms",
    "pause_seen_ms",
    "recognise_queue_ms",
    "recognise_compute_ms",
    "understand_ms",
    "audio_ready_ms",
)
FIRST_AUDIO = "first_audio_ms"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class GroupKey:
    """What a row is about; agent and intent are empty in a row for a whole tenant."""

    region: str
    tenant: str
    agent: str = ""
    intent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All that was counted for a key."""

    key: GroupKey
    calls: Calls
    turns: Turns


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Percentiles of a sketch."""

    count: int
    p50: float
    p95: float
    p99: float
    maximum: float


def grouped(entries: Iterable[StoredEntry], *, by_intent: bool) -> Iterator[Group]:
    """Sums by key. Entries must come by region and tenant; each tenant is summed up before the next one is read."""
    for (region, tenant), part in groupby(entries, key=lambda stored: (stored.region, stored.entry.tenant)):
        if by_intent:
            yield from _by_intent(region, tenant, part)
            continue
        total = EntrySum()
        for stored in part:
            total.add(stored.entry)
        yield Group(key=GroupKey(region=region, tenant=tenant), calls=total.calls(), turns=total.turns())


def summary(sketch: Sketch) -> Summary:
    """The percentiles of a sketch; zeros without any value."""
    total = LatencySketch()
    total.merge(sketch)
    p50, p95, p99 = total.quantiles(PERCENTILES)
    return Summary(count=total.count, p50=p50, p95=p95, p99=p99, maximum=total.maximum)


def latency_rows(group: Group) -> Iterator[LatencyRow]:
    """The percentiles of every stage of a group."""
    sketches = {name.removesuffix("_ms"): getattr(group.turns, name) for name in STAGES}
    sketches[FIRST_AUDIO.removesuffix("_ms")] = group.calls.first_audio_ms
    for stage, sketch in sketches.items():
        found = summary(sketch)
        if found.count:
            values = (("0.5", found.p50), ("0.95", found.p95), ("0.99", found.p99))
            yield LatencyRow(region=group.key.region, tenant=group.key.tenant, stage=stage, values_ms=values)


def _by_intent(region: str, tenant: str, part: Iterable[StoredEntry]) -> Iterator[Group]:
    sums: dict[GroupKey, EntrySum] = {}
    for stored in part:
        key = GroupKey(region=region, tenant=tenant, agent=stored.entry.agent, intent=stored.entry.intent)
        sums.setdefault(key, EntrySum()).add(stored.entry)
    for key in sorted(sums):
        yield Group(key=key, calls=sums[key].calls(), turns=sums[key].turns())
