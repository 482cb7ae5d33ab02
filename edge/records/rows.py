"""Rows of the records back to dataclasses, personal content opened with the keys at hand.

Runs on whichever thread owns the connection.
"""

import json
from datetime import UTC, datetime, timedelta

import apsw

from edge.call.ports import HangupCause, TransferOutcome
from edge.conversation.dialogue import CallOutcome, Citation
from edge.records.contents import DESTINATION, TURN_TEXTS, open_texts, places
from edge.records.database import Cell
from edge.records.keyring import KeyReader
from edge.records.model import (
    CallRecord,
    CutOffCall,
    Orphan,
    Resumptions,
    ToolRunRecord,
    TransferRecord,
    Transport,
    TurnRecord,
    TurnTimings,
)
from edge.records.presence import RunId
from edge.records.subjects import SubjectId

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

SELECT_TURNS = """
SELECT turns.*, calls.tenant, calls.subject_id, key_id, caller_text, agent_text
FROM turns JOIN calls USING (call_id) LEFT JOIN turn_contents USING (call_id, seq)
WHERE call_id = ? ORDER BY seq
"""
SELECT_TRANSFERS = """
SELECT transfers.*, calls.tenant FROM transfers JOIN calls USING (call_id) WHERE call_id = ? ORDER BY seq
"""

SELECT_RESUMPTIONS = "SELECT resumes, resumed_as FROM resumptions WHERE call_id = ?"
SELECT_CUT_OFF = """
SELECT call_id, subject_id FROM calls LEFT JOIN resumptions USING (call_id)
WHERE outcome = ? AND transport = ? AND started_at >= ? AND resumed_as IS NULL
ORDER BY started_at DESC LIMIT ?
"""


def to_ms(moment: datetime) -> int:
    """UTC milliseconds since 1970."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def to_optional_ms(moment: datetime | None) -> int | None:
    """UTC milliseconds since 1970, or None."""
    return None if moment is None else to_ms(moment)


def read_open_runs(connection: apsw.Connection) -> tuple[str | None, ...]:
    """The runs of workers that have calls open; None for calls of a release that did not say."""
    runs = connection.execute("SELECT DISTINCT worker FROM calls WHERE ended_at IS NULL")
    return tuple(_optional_text(run) for (run,) in runs)


def read_open_calls(connection: apsw.Connection, tenant: str) -> tuple[Orphan, ...]:
    """All calls that have not ended, whoever has them."""
    sql = "SELECT call_id, agent, transport, worker FROM calls WHERE ended_at IS NULL"
    return tuple(
        Orphan(
            call_id=_text(call_id),
            tenant=tenant,
            agent=_text(agent),
            transport=Transport(_text(transport)),
            run=None if run is None else RunId(_text(run)),
        )
        for call_id, agent, transport, run in connection.execute(sql)
    )


def read_resumptions(connection: apsw.Connection, call_id: str) -> Resumptions:
    """Whether a call goes on with another, and another with it."""
    for resumes, resumed_as in connection.execute(SELECT_RESUMPTIONS, (call_id,)):
        return Resumptions(resumes=_optional_text(resumes), resumed_as=_optional_text(resumed_as))
    return Resumptions()


def read_cut_off_calls(connection: apsw.Connection, tenant: str, since_ms: int, limit: int) -> tuple[CutOffCall, ...]:
    """Calls over SIP that failed and are not known to be resumed, the newest first."""
    rows = connection.execute(SELECT_CUT_OFF, (CallOutcome.FAILED, Transport.SIP, since_ms, limit))
    return tuple(
        CutOffCall(tenant=tenant, call_id=_text(call_id), subject_id=SubjectId(_text(subject)))
        for call_id, subject in rows
    )


def read_recent_calls(connection: apsw.Connection, limit: int) -> tuple[CallRecord, ...]:
    """The newest calls first."""
    rows = connection.execute("SELECT * FROM calls ORDER BY started_at DESC, call_id LIMIT ?", (limit,))
    return tuple(_call(*row) for row in rows)


def read_call(connection: apsw.Connection, call_id: str) -> CallRecord | None:
    """One call, or None."""
    for row in connection.execute("SELECT * FROM calls WHERE call_id = ?", (call_id,)):
        return _call(*row)
    return None


def read_turns(connection: apsw.Connection, keys: KeyReader, call_id: str) -> tuple[TurnRecord, ...]:
    """All turns of a call, in order."""
    return tuple(_turn(keys, *row) for row in connection.execute(SELECT_TURNS, (call_id,)))


def read_tool_runs(connection: apsw.Connection, call_id: str) -> tuple[ToolRunRecord, ...]:
    """All tool runs of a call, in order."""
    sql = "SELECT tool_runs.*, tenant FROM tool_runs JOIN calls USING (call_id) WHERE call_id = ? ORDER BY seq"
    return tuple(_tool_run(*row) for row in connection.execute(sql, (call_id,)))


def read_transfers(connection: apsw.Connection, keys: KeyReader, call_id: str) -> tuple[TransferRecord, ...]:
    """All transfers of a call, in order."""
    return tuple(_transfer(keys, *row) for row in connection.execute(SELECT_TRANSFERS, (call_id,)))


def _moment(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)


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


def _turn(keys: KeyReader, *row: Cell) -> TurnRecord:
    key_id, *texts = row[16:]
    where = places(_text(row[14]), _text(row[0]), _integer(row[1]), TURN_TEXTS)
    state, (caller_text, agent_text) = open_texts(keys, key_id, texts, where)
    return TurnRecord(
        call_id=_text(row[0]),
        tenant=_text(row[14]),
        subject_id=SubjectId(_text(row[15])),
        seq=_integer(row[1]),
        began_at=_moment(_integer(row[2])),
        caller_text=caller_text,
        agent_text=agent_text,
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
        content_state=state,
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


def _transfer(keys: KeyReader, *row: Cell) -> TransferRecord:
    tenant, call_id, seq = _text(row[8]), _text(row[0]), _integer(row[1])
    state, (destination,) = open_texts(keys, row[2], row[3:4], places(tenant, call_id, seq, (DESTINATION,)))
    return TransferRecord(
        call_id=call_id,
        tenant=tenant,
        seq=seq,
        destination=destination,
        reason=_text(row[4]),
        began_at=_moment(_integer(row[5])),
        took_ms=_integer(row[6]),
        outcome=TransferOutcome(_text(row[7])),
        content_state=state,
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
