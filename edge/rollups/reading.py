"""Reads from a tenant's records what rollups count. Read-only; no column with anybody's words or number is read."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from edge.records.database import Cell, DatabaseSettings, database_path, open_reader
from edge.rollups.cut import CountedTurn, EndedCall

REPEAT_WITHIN_MS = 24 * 3600 * 1000

SELECT_ENDED = """
SELECT ended.seq, call_id, agent, agent_version, subject_id, started_at, coalesce(answered_at, started_at),
  ended_at, outcome, reason, first_audio_ms
FROM ended_calls AS ended JOIN calls USING (call_id) WHERE ended.seq > ? AND ended_at IS NOT NULL
ORDER BY ended.seq LIMIT ?
"""
SELECT_TURNS = """
SELECT seq, began_at, intent, confidence, was_interrupted, is_silent,
  sent_ms, pause_seen_ms, recognise_queue_ms, recognise_compute_ms, understand_ms, audio_ready_ms
FROM turns WHERE call_id = ? ORDER BY seq
"""
# Other nodes' calls are not seen until a region shares its state: a caller who rings back and is answered by a sibling
# counts as new.
SELECT_REPEATED = """
SELECT EXISTS (SELECT 1 FROM calls WHERE subject_id = ? AND started_at < ? AND started_at >= ? AND call_id <> ?)
"""
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
    """An ended call and its place in the list of ended calls."""

    seq: int
    call_id: str
    call: EndedCall


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """How far a tenant's list was counted, and the last places of it with the calls that stood there."""

    watermark: int = 0
    places: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What follows the counted calls; `after` is below their watermark when the records went back in time."""

    after: int
    calls: tuple[ListedCall, ...]


def read_ended(records: Path, tenant: str, settings: DatabaseSettings, counted: Counted, limit: int) -> Ended:
    """The calls that ended after those that were counted, in order. Raises apsw.Error."""
    with contextlib.closing(open_reader(database_path(records, tenant), settings)) as connection:
        connection.execute("BEGIN")
        start = _true_watermark(connection, counted)
        rows = connection.execute(SELECT_ENDED, (start, limit)).fetchall()
        return Ended(after=start, calls=tuple(_listed(connection, tenant, row) for row in rows))


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


def _listed(connection: apsw.Connection, tenant: str, row: tuple[Cell, ...]) -> ListedCall:
    seq, call_id, agent, version, subject, started, answered, ended, outcome, reason, first_audio = row
    turns = connection.execute(SELECT_TURNS, (call_id,)).fetchall()
    return ListedCall(
        seq=_integer(seq),
        call_id=str(call_id),
        call=EndedCall(
            tenant=tenant,
            agent=str(agent),
            agent_version=str(version),
            ended_at_ms=_integer(ended),
            duration_ms=max(0, _integer(ended) - _integer(answered)),
            outcome=_optional_text(outcome),
            reason=_optional_text(reason),
            first_audio_ms=_optional_integer(first_audio),
            is_repeated=_is_repeated(connection, str(call_id), str(subject), _integer(started)),
            turns=tuple(_turn(turn) for turn in turns),
        ),
    )


def _is_repeated(connection: apsw.Connection, call_id: str, subject: str, started_ms: int) -> bool:
    around = (subject, started_ms, started_ms - REPEAT_WITHIN_MS, call_id)
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
