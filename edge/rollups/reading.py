"""Reads from a tenant's records what rollups count. Read-only; no column with anybody's words or number is read."""

import contextlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import apsw

from edge.records.database import Cell, DatabaseSettings, database_path, open_reader
from edge.rollups.cut import CountedTurn, EndedCall
from edge.rollups.recent import REPEAT_WITHIN_MS, Sighting

# What a region that cannot be reached has heard.
NOT_TOLD: Mapping[str, bool] = MappingProxyType({})
# Bounds what a cut tells at once of calls that it counted before.
UNTOLD_AT_ONCE = 500
# Who calls from the page has no number.
NAMED_TRANSPORT = "sip"

SELECT_ENDED = """
SELECT ended.seq, call_id, agent, agent_version, subject_id, started_at, coalesce(answered_at, started_at),
  ended_at, outcome, reason, first_audio_ms, transport
FROM ended_calls AS ended JOIN calls USING (call_id) WHERE ended.seq > ? AND ended_at IS NOT NULL
ORDER BY ended.seq LIMIT ?
"""
SELECT_TURNS = """
SELECT seq, began_at, intent, confidence, was_interrupted, is_silent,
  sent_ms, pause_seen_ms, recognise_queue_ms, recognise_compute_ms, understand_ms, audio_ready_ms
FROM turns WHERE call_id = ? ORDER BY seq
"""
# The first of two calls is the one that ended first, as in the region's list (recent.py).
SELECT_REPEATED = """
SELECT EXISTS (
  SELECT 1 FROM calls JOIN ended_calls AS ended USING (call_id)
  WHERE subject_id = ? AND started_at BETWEEN ? AND ? AND ended.seq < ?
)
"""
SELECT_UNTOLD = f"""
SELECT ended.seq, call_id, subject_id, started_at FROM calls JOIN ended_calls AS ended USING (call_id)
WHERE ended.seq > ? AND ended.seq <= ? AND started_at >= ? AND transport = '{NAMED_TRANSPORT}'
ORDER BY ended.seq LIMIT ?
"""  # noqa: S608 - our own name
_LATENCIES = (
    "response_ms",
    "pause_seen_ms",
    "recognise_queue_ms",
    "recognise_compute_ms",
    "understand_ms",
    "audio_ready_ms",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedCall:
    """An ended call and its place in the list of ended calls. `sighting`: what the region is to hear of it."""

    seq: int
    call_id: str
    call: EndedCall
    sighting: Sighting | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How far a tenant's list was counted, how far the region heard of it, and the last places of it with the calls
    that stood there."""

    watermark: int = 0
    told: int = 0
    places: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What follows the counted calls; `after` is below their watermark when the records went back in time.

    `untold` were counted while the region could not be reached; with them it has heard of all up to `untold_to`.
    """

    after: int
    calls: tuple[ListedCall, ...]
    told: int
    untold: tuple[Sighting, ...]
    untold_to: int

    @property
    def sightings(self) -> tuple[Sighting, ...]:
        """All that the region is to hear, in order."""
        return (*self.untold, *(listed.sighting for listed in self.calls if listed.sighting is not None))

    def told_with(self, heard: Collection[str]) -> int:
        """How far the region has heard of the list, once it has heard of these call ids."""
        if any(sighting.call_id not in heard for sighting in self.untold):
            return self.told
        is_caught_up = self.untold_to == self.after
        is_heard = all(listed.sighting is None or listed.call_id in heard for listed in self.calls)
        return self.calls[-1].seq if self.calls and is_caught_up and is_heard else self.untold_to


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What a cut counts next, by tenant."""

    tenants: Mapping[str, Ended]

    @property
    def holds_calls(self) -> bool:
        """Whether there is anything to count."""
        return any(ended.calls for ended in self.tenants.values())

    @property
    def sightings(self) -> list[Sighting]:
        """What the region is to hear before this is stored, in order."""
        return [sighting for ended in self.tenants.values() for sighting in ended.sightings]


def read_ended(
    records: Path, tenant: str, settings: DatabaseSettings, counted: Counted, *, limit: int, now_ms: int
) -> Ended:
    """The calls that ended after those that were counted, in order. Raises apsw.Error."""
    since_ms = now_ms - REPEAT_WITHIN_MS
    with contextlib.closing(open_reader(database_path(records, tenant), settings)) as connection:
        connection.execute("BEGIN")
        start = _true_watermark(connection, counted)
        told = min(counted.told, start)
        untold = _untold(connection, tenant, (told, start, since_ms)) if told < start else []
        rows = connection.execute(SELECT_ENDED, (start, limit)).fetchall()
        return Ended(
            after=start,
            calls=tuple(_listed(connection, tenant, since_ms, row) for row in rows),
            told=told,
            untold=tuple(sighting for _, sighting in untold),
            untold_to=untold[-1][0] if len(untold) == UNTOLD_AT_ONCE else start,
        )


def _untold(connection: apsw.Connection, tenant: str, bounds: tuple[int, int, int]) -> list[tuple[int, Sighting]]:
    return [
        (_integer(seq), _sighting(tenant, call_id, subject, started))
        for seq, call_id, subject, started in connection.execute(SELECT_UNTOLD, (*bounds, UNTOLD_AT_ONCE)).fetchall()
    ]


def _sighting(tenant: str, call_id: Cell, subject: Cell, started: Cell) -> Sighting:
    return Sighting(tenant=tenant, subject_id=str(subject), call_id=str(call_id), started_ms=_integer(started))


def _true_watermark(connection: apsw.Connection, counted: Counted) -> int:
    """The watermark, or an earlier one where the records were restored to an earlier moment and places of the list were
    given to other calls. A place that is empty now was erased."""
    newest = connection.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'ended_calls'").get
    is_restored = _integer(newest) < counted.watermark
    for seq in sorted(counted.places, reverse=True):
        call_id = connection.execute("SELECT call_id FROM ended_calls WHERE seq = ?", (seq,)).get
        if call_id == counted.places[seq]:
            return seq if is_restored else counted.watermark
        is_restored = is_restored or call_id is not None
    return 0 if is_restored else counted.watermark


def _listed(connection: apsw.Connection, tenant: str, since_ms: int, row: tuple[Cell, ...]) -> ListedCall:
    seq, call_id, agent, version, subject, started, answered, ended, outcome, reason, first_audio, transport = row
    turns = connection.execute(SELECT_TURNS, (call_id,)).fetchall()
    is_told = transport == NAMED_TRANSPORT and _integer(started) >= since_ms
    return ListedCall(
        seq=_integer(seq),
        call_id=str(call_id),
        sighting=_sighting(tenant, call_id, subject, started) if is_told else None,
        call=EndedCall(
            tenant=tenant,
            agent=str(agent),
            agent_version=str(version),
            ended_at_ms=_integer(ended),
            duration_ms=max(0, _integer(ended) - _integer(answered)),
            outcome=_optional_text(outcome),
            reason=_optional_text(reason),
            first_audio_ms=_optional_integer(first_audio),
            is_repeated=_is_repeated(connection, _integer(seq), str(subject), _integer(started)),
            turns=tuple(_turn(turn) for turn in turns),
        ),
    )


def _is_repeated(connection: apsw.Connection, seq: int, subject: str, started_ms: int) -> bool:
    around = (subject, started_ms - REPEAT_WITHIN_MS, started_ms + REPEAT_WITHIN_MS, seq)
    return bool(connection.execute(SELECT_REPEATED, around).get)


def _turn(row: tuple[Cell, ...]) -> CountedTurn:
    seq, began, intent, confidence, was_interrupted, is_silent, *latencies = row
    known = zip(_LATENCIES, latencies, strict=True)
    return CountedTurn(
        seq=_integer(seq),
        began_at_ms=_integer(began),
        intent=_optional_text(intent),
        confidence=confidence if isinstance(confidence, float) else None,
        was_interrupted=bool(was_interrupted),
        is_silent=bool(is_silent),
        latencies_ms={name: value for name, value in known if isinstance(value, int)},
    )


def _integer(cell: Cell) -> int:
    assert isinstance(cell, int)
    return cell


def _optional_integer(cell: Cell) -> int | None:
    return cell if isinstance(cell, int) else None


def _optional_text(cell: Cell) -> str | None:
    return cell if isinstance(cell, str) else None
