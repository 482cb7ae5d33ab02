"""SQL of the records: dataclasses to rows and back. Runs on whichever thread owns the connection."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import apsw

from edge.call.ports import HangupCause, TransferOutcome
from edge.conversation.dialogue import CallOutcome, Citation
from edge.records.database import Cell
from edge.records.model import (
    CallRecord,
    Record,
    ToolRunRecord,
    TransferRecord,
    Transport,
    TurnRecord,
    TurnTimings,
)
from edge.records.presence import RunId
from edge.records.subjects import SubjectId

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

UPSERT_CALL = """
INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (call_id) DO UPDATE SET agent = excluded.agent, agent_version = excluded.agent_version,
  answered_at = excluded.answered_at, ended_at = excluded.ended_at, outcome = excluded.outcome,
  hangup_cause = excluded.hangup_cause, reason = excluded.reason, first_audio_ms = excluded.first_audio_ms,
  worker = excluded.worker
"""
# A call ends once, however often its record is written.
INSERT_ENDED = "INSERT INTO ended_calls (call_id) VALUES (?) ON CONFLICT (call_id) DO NOTHING"
# Upserts and not REPLACE: REPLACE deletes the old row first, and its content with it (ON DELETE CASCADE).
UPSERT_TURN = """
INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (call_id, seq) DO UPDATE SET intent = excluded.intent, confidence = excluded.confidence,
  citations = excluded.citations, was_interrupted = excluded.was_interrupted, pause_seen_ms = excluded.pause_seen_ms,
  recognise_queue_ms = excluded.recognise_queue_ms, recognise_compute_ms = excluded.recognise_compute_ms,
  understand_ms = excluded.understand_ms, audio_ready_ms = excluded.audio_ready_ms, sent_ms = excluded.sent_ms,
  is_silent = excluded.is_silent
"""
UPSERT_CONTENT = """
INSERT INTO turn_contents VALUES (?, ?, ?, ?, ?)
ON CONFLICT (call_id, seq) DO UPDATE SET caller_text = excluded.caller_text, agent_text = excluded.agent_text
"""
SELECT_TURNS = """
SELECT turns.*, calls.tenant, calls.subject_id, coalesce(caller_text, ''), coalesce(agent_text, '')
FROM turns JOIN calls USING (call_id) LEFT JOIN turn_contents USING (call_id, seq)
WHERE call_id = ? ORDER BY seq
"""


# The last that is known of a call: it began, was answered, said something, or asked for a human.
CLOSE_CALL = """
UPDATE calls SET outcome = ?, hangup_cause = ?, reason = ?, ended_at = max(
  started_at,
  coalesce(answered_at, 0),
  coalesce((SELECT max(began_at) FROM turns WHERE turns.call_id = calls.call_id), 0),
  coalesce((SELECT max(began_at + took_ms) FROM transfers WHERE transfers.call_id = calls.call_id), 0))
WHERE ended_at IS NULL AND worker IS ? RETURNING call_id
"""


def write(connection: apsw.Connection, record: Record, run: RunId) -> None:
    """Insert a record of this run of a worker, or bring its row up to date."""
    match record:
        case CallRecord():
            connection.execute(UPSERT_CALL, (*_call_row(record), run))
            if record.ended_at is not None:
                connection.execute(INSERT_ENDED, (record.call_id,))
        case TurnRecord():
            connection.execute(UPSERT_TURN, _turn_row(record))
            content = (record.call_id, record.seq, record.subject_id, record.caller_text, record.agent_text)
            connection.execute(UPSERT_CONTENT, content)
        case ToolRunRecord():
            row = (record.call_id, record.seq, record.tool, _ms(record.began_at), record.took_ms, record.error)
            connection.execute("INSERT INTO tool_runs VALUES (?, ?, ?, ?, ?, ?)", row)
        case TransferRecord():
            _write_transfer(connection, record)


def read_open_runs(connection: apsw.Connection) -> tuple[str | None, ...]:
    """The runs of workers that have calls open; None for calls of a release that did not say."""
    runs = connection.execute("SELECT DISTINCT worker FROM calls WHERE ended_at IS NULL")
    return tuple(_optional_text(run) for (run,) in runs)


def close_calls_of(connection: apsw.Connection, runs: Sequence[str | None], *, reason: str) -> int:
    """End the open calls of these runs as failed; returns how many."""
    cause, count = HangupCause.TEMPORARY_FAILURE, 0
    for run in runs:
        for (call_id,) in connection.execute(CLOSE_CALL, (CallOutcome.FAILED, cause, reason, run)).fetchall():
            connection.execute(INSERT_ENDED, (call_id,))
            count += 1
    return count


def read_recent_calls(connection: apsw.Connection, limit: int) -> tuple[CallRecord, ...]:
    """The newest calls first."""
    rows = connection.execute("SELECT * FROM calls ORDER BY started_at DESC, call_id LIMIT ?", (limit,))
    return tuple(_call(*row) for row in rows)


def read_call(connection: apsw.Connection, call_id: str) -> CallRecord | None:
    """One call, or None."""
    for row in connection.execute("SELECT * FROM calls WHERE call_id = ?", (call_id,)):
        return _call(*row)
    return None


def read_turns(connection: apsw.Connection, call_id: str) -> tuple[TurnRecord, ...]:
    """All turns of a call, in order."""
    return tuple(_turn(*row) for row in connection.execute(SELECT_TURNS, (call_id,)))


def read_tool_runs(connection: apsw.Connection, call_id: str) -> tuple[ToolRunRecord, ...]:
    """All tool runs of a call, in order."""
    sql = "SELECT tool_runs.*, tenant FROM tool_runs JOIN calls USING (call_id) WHERE call_id = ? ORDER BY seq"
    return tuple(_tool_run(*row) for row in connection.execute(sql, (call_id,)))


def read_transfers(connection: apsw.Connection, call_id: str) -> tuple[TransferRecord, ...]:
    """All transfers of a call, in order."""
    sql = "SELECT transfers.*, tenant FROM transfers JOIN calls USING (call_id) WHERE call_id = ? ORDER BY seq"
    return tuple(_transfer(*row) for row in connection.execute(sql, (call_id,)))


def _ms(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _optional_ms(moment: datetime | None) -> int | None:
    return None if moment is None else _ms(moment)


def _moment(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


def _call_row(call: CallRecord) -> tuple[Cell, ...]:
    return (
        call.call_id,
        call.tenant,
        call.agent,
        call.agent_version,
        call.subject_id,
        call.called_number,
        call.transport,
        _ms(call.started_at),
        _optional_ms(call.answered_at),
        _optional_ms(call.ended_at),
        call.outcome,
        call.hangup_cause,
        call.reason,
        call.first_audio_ms,
    )


def _turn_row(turn: TurnRecord) -> tuple[Cell, ...]:
    timings = turn.timings
    return (
        turn.call_id,
        turn.seq,
        _ms(turn.began_at),
        turn.intent,
        turn.confidence,
        json.dumps([[citation.item_id, citation.version] for citation in turn.citations]),
        int(turn.was_interrupted),
        timings.pause_seen_ms,
        timings.recognise_queue_ms,
        timings.recognise_compute_ms,
        timings.understand_ms,
        timings.audio_ready_ms,
        timings.sent_ms,
        int(turn.is_silent),
    )


def _write_transfer(connection: apsw.Connection, record: TransferRecord) -> None:
    row = (
        record.call_id,
        record.seq,
        record.destination,
        record.reason,
        _ms(record.began_at),
        record.took_ms,
        record.outcome,
    )
    connection.execute("INSERT INTO transfers VALUES (?, ?, ?, ?, ?, ?, ?)", row)


def _call(*row: Cell) -> CallRecord:
    return CallRecord(  # the columns after these are no part of the record
        call_id=_text(row[0]),
        tenant=_text(row[1]),
        agent=_text(row[2]),
        agent_version=_text(row[3]),
        subject_id=SubjectId(_text(row[4])),
        called_number=_text(row[5]),
        transport=Transport(_text(row[6])),
        started_at=_moment(_integer(row[7])),
        answered_at=None if row[8] is None else _moment(_integer(row[8])),
        ended_at=None if row[9] is None else _moment(_integer(row[9])),
        outcome=None if row[10] is None else CallOutcome(_text(row[10])),
        hangup_cause=None if row[11] is None else HangupCause(_text(row[11])),
        reason=_optional_text(row[12]),
        first_audio_ms=_optional_integer(row[13]),
    )


def _turn(*row: Cell) -> TurnRecord:
    return TurnRecord(
        call_id=_text(row[0]),
        tenant=_text(row[14]),
        subject_id=SubjectId(_text(row[15])),
        seq=_integer(row[1]),
        began_at=_moment(_integer(row[2])),
        caller_text=_text(row[16]),
        agent_text=_text(row[17]),
        intent=_optional_text(row[3]),
        confidence=row[4] if isinstance(row[4], float) else None,
        citations=tuple(Citation(item_id=item, version=version) for item, version in json.loads(_text(row[5]))),
        was_interrupted=bool(row[6]),
        is_silent=bool(row[13]),
        timings=TurnTimings(
            pause_seen_ms=_optional_integer(row[7]),
            recognise_queue_ms=_optional_integer(row[8]),
            recognise_compute_ms=_optional_integer(row[9]),
            understand_ms=_optional_integer(row[10]),
            audio_ready_ms=_optional_integer(row[11]),
            sent_ms=_optional_integer(row[12]),
        ),
    )


def _tool_run(*row: Cell) -> ToolRunRecord:
    return ToolRunRecord(
        call_id=_text(row[0]),
        tenant=_text(row[6]),
        seq=_integer(row[1]),
        tool=_text(row[2]),
        began_at=_moment(_integer(row[3])),
        took_ms=_integer(row[4]),
        error=_optional_text(row[5]),
    )


def _transfer(*row: Cell) -> TransferRecord:
    return TransferRecord(
        call_id=_text(row[0]),
        tenant=_text(row[7]),
        seq=_integer(row[1]),
        destination=_text(row[2]),
        reason=_text(row[3]),
        began_at=_moment(_integer(row[4])),
        took_ms=_integer(row[5]),
        outcome=TransferOutcome(_text(row[6])),
    )


def _text(value: Cell) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, the column holds {type(value).__name__}")
    return value


def _integer(value: Cell) -> int:
    if not isinstance(value, int):
        raise TypeError(f"expected an integer, the column holds {type(value).__name__}")
    return value


def _optional_text(value: Cell) -> str | None:
    return None if value is None else _text(value)


def _optional_integer(value: Cell) -> int | None:
    return None if value is None else _integer(value)
