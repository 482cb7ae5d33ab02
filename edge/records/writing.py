"""Writes records into a tenant's database, with what the audit log tells of them, in the caller's transaction."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import apsw

from edge.call.ports import HangupCause
from edge.conversation.dialogue import CallOutcome
from edge.records.audit import AuditAction, AuditTrail, digest_turns
from edge.records.contents import DESTINATION, TURN_TEXTS, places, seal_texts, state_place
from edge.records.database import Cell
from edge.records.errors import CallTakenOverError
from edge.records.keyring import KeyId, Keyring
from edge.records.model import (
    Adopted,
    Adoption,
    CallRecord,
    ContentState,
    CutOffRecord,
    Record,
    ResumesRecord,
    StateRecord,
    ToolRunRecord,
    TransferRecord,
    TurnRecord,
)
from edge.records.presence import RunId
from edge.records.rows import EPOCH, read_call, to_ms, to_optional_ms
from edge.records.sealing import SealBrokenError, seal, unseal
from edge.records.subjects import SubjectId

UPSERT_CALL = """
INSERT INTO calls VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (call_id) DO UPDATE SET agent = excluded.agent, agent_version = excluded.agent_version,
  answered_at = excluded.answered_at, ended_at = excluded.ended_at, outcome = excluded.outcome,
  hangup_cause = excluded.hangup_cause, reason = excluded.reason, first_audio_ms = excluded.first_audio_ms,
  worker = excluded.worker
"""
# A call ends once, however often its record is written.
INSERT_ENDED = "INSERT INTO ended_calls (call_id) VALUES (?) ON CONFLICT (call_id) DO NOTHING"
# Written once: a save that hit its deadline is tried again, and may have reached the disk the first time.
INSERT_TOOL_RUN = "INSERT INTO tool_runs VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (call_id, seq) DO NOTHING"
HAS_TRANSFER = "SELECT 1 FROM transfers WHERE call_id = ? AND seq = ?"
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
INSERT INTO turn_contents VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (call_id, seq) DO UPDATE SET key_id = excluded.key_id, caller_text = excluded.caller_text,
  agent_text = excluded.agent_text
"""
# What the conversation calls a turn that answers the question for consent (edge/conversation/conversation.py).
CONSENTS = {"consent_given": AuditAction.CONSENT_GIVEN, "consent_declined": AuditAction.CONSENT_REFUSED}
# The last that is known of a call: it began, was answered, said something, or asked for a human.
LAST_KNOWN = """max(
  started_at,
  coalesce(answered_at, 0),
  coalesce((SELECT max(began_at) FROM turns WHERE turns.call_id = calls.call_id), 0),
  coalesce((SELECT max(began_at + took_ms) FROM transfers WHERE transfers.call_id = calls.call_id), 0))
"""
CLOSE_CALL = f"""
UPDATE calls SET outcome = ?, hangup_cause = ?, reason = ?, ended_at = {LAST_KNOWN}
WHERE ended_at IS NULL AND worker IS ? RETURNING call_id
"""  # noqa: S608 - made of constants


# A call belongs to one run. Who had it before and wakes up finds another name here.
SELECT_OWNER = "SELECT worker FROM calls WHERE call_id = ?"
ADOPT = "UPDATE calls SET worker = ? WHERE call_id = ? AND worker IS ? AND ended_at IS NULL"
INSERT_RESUMES = """
INSERT INTO resumptions (call_id, resumes) VALUES (?, ?)
ON CONFLICT (call_id) DO UPDATE SET resumes = excluded.resumes WHERE resumes IS NULL
"""
INSERT_RESUMED = """
INSERT INTO resumptions (call_id, resumed_as) VALUES (?, ?)
ON CONFLICT (call_id) DO UPDATE SET resumed_as = excluded.resumed_as WHERE resumed_as IS NULL
"""
UPSERT_STATE = """
INSERT INTO call_states VALUES (?, ?, ?)
ON CONFLICT (call_id) DO UPDATE SET key_id = excluded.key_id, state = excluded.state
"""
SELECT_STATE = "SELECT key_id, state FROM call_states WHERE call_id = ?"
FORGET_STATE = "DELETE FROM call_states WHERE call_id = ?"
COUNTS = (
    "SELECT coalesce(max(seq) + 1, 0) FROM turns WHERE call_id = ?",
    "SELECT count(*) FROM tool_runs WHERE call_id = ?",
    "SELECT count(*) FROM transfers WHERE call_id = ?",
    f"SELECT {LAST_KNOWN} FROM calls WHERE call_id = ?",  # noqa: S608 - made of constants
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writer:
    """Writes for one run of a worker into one tenant's database; every method runs inside BEGIN IMMEDIATE."""

    connection: apsw.Connection
    tenant: str
    run: RunId
    keyring: Keyring
    trail: AuditTrail

    def write(self, record: Record) -> None:
        """Insert a record, or bring its row up to date. Raises CallTakenOverError, and nothing is written, where the
        call belongs to another run: this one was taken for dead."""
        if not isinstance(record, CutOffRecord):
            self._refuse_if_lost(record.call_id)
        match record:
            case CallRecord():
                self._write_call(record)
            case TurnRecord():
                self._write_turn(record)
            case ToolRunRecord():
                row = (record.call_id, record.seq, record.tool, to_ms(record.began_at), record.took_ms, record.error)
                self.connection.execute(INSERT_TOOL_RUN, row)
            case TransferRecord():
                self._write_transfer(record)
            case StateRecord():
                self._write_state(record)
            case ResumesRecord() | CutOffRecord():
                self._write_resumption(record)

    def adopt(self, adoption: Adoption) -> Adopted | None:
        """Make an open call of a dead run this run's; None where it has ended, or another run was faster."""
        orphan = adoption.orphan
        self.connection.execute(ADOPT, (self.run, orphan.call_id, orphan.run))
        if self.connection.changes() == 0:
            return None
        action = AuditAction.CALL_ADOPTED if adoption.goes_on else AuditAction.CALL_CLAIMED
        self.trail.append(action, orphan.call_id, dead=orphan.run, by=self.run)
        call = read_call(self.connection, orphan.call_id)
        assert call is not None
        next_seq, tool_runs, transfers, last_known_ms = (self._count(sql, call.call_id) for sql in COUNTS)
        return Adopted(
            call=call,
            state=self._read_state(call),
            next_seq=next_seq,
            tool_runs=tool_runs,
            transfers=transfers,
            last_known_at=EPOCH + timedelta(milliseconds=last_known_ms),
        )

    def close_calls_of(self, runs: Sequence[str | None], *, reason: str) -> int:
        """End the open calls of these runs as failed; returns how many."""
        cause, count = HangupCause.TEMPORARY_FAILURE, 0
        for run in runs:
            closed = self.connection.execute(CLOSE_CALL, (CallOutcome.FAILED, cause, reason, run)).fetchall()
            for (call_id,) in closed:
                self.connection.execute(INSERT_ENDED, (call_id,))
                self.connection.execute(FORGET_STATE, (call_id,))
                self._tell_end(AuditAction.CALL_ENDED, str(call_id), CallOutcome.FAILED, reason)
                count += 1
        return count

    def _write_call(self, call: CallRecord) -> None:
        sql = "SELECT answered_at, ended_at FROM calls WHERE call_id = ?"
        before = self.connection.execute(sql, (call.call_id,)).fetchone()
        was_answered, was_ended = (False, False) if before is None else (value is not None for value in before)
        self.connection.execute(UPSERT_CALL, (*_call_row(call), self.run))
        if before is None:
            self.trail.append(AuditAction.CALL_STARTED, call.call_id, agent=call.agent, version=call.agent_version)
        if call.answered_at is not None and not was_answered:
            self.trail.append(AuditAction.CALL_ANSWERED, call.call_id, transport=call.transport)
        if call.ended_at is not None:
            self.connection.execute(INSERT_ENDED, (call.call_id,))
            self.connection.execute(FORGET_STATE, (call.call_id,))
            action = AuditAction.CALL_AMENDED if was_ended else AuditAction.CALL_ENDED
            self._tell_end(action, call.call_id, call.outcome, call.reason)

    def _write_turn(self, turn: TurnRecord) -> None:
        self.connection.execute(UPSERT_TURN, _turn_row(turn))
        if turn.content_state is not ContentState.ABSENT:
            self._write_content(turn)
        action = CONSENTS.get(turn.intent or "")
        if action is not None and not self.trail.tells(action, turn.call_id):
            self.trail.append(action, turn.call_id, turn=turn.seq)
        if ended := self._ended(turn.call_id):
            self._tell_end(AuditAction.CALL_AMENDED, turn.call_id, *ended)

    def _write_content(self, turn: TurnRecord) -> None:
        texts = (turn.caller_text, turn.agent_text)
        where = places(self.tenant, turn.call_id, turn.seq, TURN_TEXTS)
        sealed = seal_texts(self.keyring, turn.subject_id, where, texts)
        self._tell_key(sealed.key_id)
        self.connection.execute(UPSERT_CONTENT, (turn.call_id, turn.seq, turn.subject_id, sealed.key_id, *sealed.texts))

    def _write_transfer(self, transfer: TransferRecord) -> None:
        if self.connection.execute(HAS_TRANSFER, (transfer.call_id, transfer.seq)).get is not None:
            return  # nor is it entered twice
        subject = self.connection.execute("SELECT subject_id FROM calls WHERE call_id = ?", (transfer.call_id,)).get
        if subject is None:
            raise apsw.ConstraintError("FOREIGN KEY constraint failed: a transfer without its call")
        where = places(self.tenant, transfer.call_id, transfer.seq, (DESTINATION,))
        sealed = seal_texts(self.keyring, SubjectId(str(subject)), where, (transfer.destination,))
        self._tell_key(sealed.key_id)
        row = (
            transfer.call_id,
            transfer.seq,
            sealed.key_id,
            sealed.texts[0],
            transfer.reason,
            to_ms(transfer.began_at),
            transfer.took_ms,
            transfer.outcome,
        )
        self.connection.execute("INSERT INTO transfers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        self.trail.append(AuditAction.TRANSFER, transfer.call_id, reason=transfer.reason, outcome=transfer.outcome)

    def _write_state(self, record: StateRecord) -> None:
        key = self.keyring.one(record.subject_id)
        sealed = seal(key.secret, record.state, state_place(self.tenant, record.call_id).bound())
        self._tell_key(key.key_id)
        self.connection.execute(UPSERT_STATE, (record.call_id, key.key_id, sealed))

    def _write_resumption(self, record: ResumesRecord | CutOffRecord) -> None:
        """Once, with the audit entry that tells it."""
        if isinstance(record, ResumesRecord):
            sql, other, action = INSERT_RESUMES, record.resumes, AuditAction.CALL_RESUMES
            facts = {"call": other, "node": record.from_node, "consent": record.consent}
        else:
            sql, other, action = INSERT_RESUMED, record.resumed_as, AuditAction.CALL_RESUMED
            facts = {"call": other}
        self.connection.execute(sql, (record.call_id, other))
        if self.connection.changes():
            self.trail.append(action, record.call_id, **facts)

    def _read_state(self, call: CallRecord) -> bytes | None:
        """The state, or None: never written, or its key was destroyed meanwhile."""
        key = self.keyring.one(call.subject_id)
        for key_id, sealed in self.connection.execute(SELECT_STATE, (call.call_id,)):
            if key_id == key.key_id and isinstance(sealed, bytes):
                try:
                    return unseal(key.secret, sealed, state_place(self.tenant, call.call_id).bound())
                except SealBrokenError:
                    return None
        return None

    def _count(self, sql: str, call_id: str) -> int:
        return int(str(self.connection.execute(sql, (call_id,)).get))

    def _refuse_if_lost(self, call_id: str) -> None:
        owner: Cell = self.connection.execute(SELECT_OWNER, (call_id,)).get
        # Nobody loses a call but by its adoption.
        if owner in {None, self.run}:
            return
        if self.trail.tells(AuditAction.CALL_ADOPTED, call_id) or self.trail.tells(AuditAction.CALL_CLAIMED, call_id):
            raise CallTakenOverError(f"call {call_id} belongs to another worker")

    def _tell_key(self, key_id: KeyId) -> None:
        """A key is entered with the first content that it seals."""
        if not self.trail.tells(AuditAction.KEY_CREATED, key_id):
            self.trail.append(AuditAction.KEY_CREATED, key_id)

    def _tell_end(self, action: AuditAction, call_id: str, outcome: str | None, reason: str | None) -> None:
        digests = digest_turns(self.connection, call_id)
        self.trail.append(
            action, call_id, outcome=outcome, reason=reason, turns=digests.turns, contents=digests.contents
        )

    def _ended(self, call_id: str) -> tuple[str | None, str | None] | None:
        sql = "SELECT outcome, reason FROM calls WHERE call_id = ? AND ended_at IS NOT NULL"
        for outcome, reason in self.connection.execute(sql, (call_id,)):
            return (None if outcome is None else str(outcome), None if reason is None else str(reason))
        return None


def _call_row(call: CallRecord) -> tuple[Cell, ...]:
    return (
        call.call_id,
        call.tenant,
        call.agent,
        call.agent_version,
        call.subject_id,
        call.called_number,
        call.transport,
        to_ms(call.started_at),
        to_optional_ms(call.answered_at),
        to_optional_ms(call.ended_at),
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
        to_ms(turn.began_at),
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
