"""Records of a node, as calls workers leave them: written with the records' own schema."""

from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import apsw

SCHEMA = ("0001_create_calls.sql", "0002_add_ended_calls.sql")
BEGAN_MS = 1_795_000_000_000
SUBJECT = "subject"
INSERT_CALL = """
INSERT INTO calls (call_id, tenant, agent, agent_version, subject_id, called_number, transport, started_at, answered_at,
  ended_at, outcome, hangup_cause, reason, first_audio_ms)
VALUES (?, ?, ?, ?, ?, '+4930123456', ?, ?, ?, ?, ?, '16', ?, ?)
"""
INSERT_TURN = """
INSERT INTO turns (call_id, seq, began_at, intent, confidence, citations, was_interrupted, is_silent, pause_seen_ms,
  recognise_queue_ms, recognise_compute_ms, understand_ms, audio_ready_ms, sent_ms)
VALUES (?, ?, ?, ?, ?, '[]', ?, ?, 64, 1, 90, 8, ?, ?)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    intent: str | None = "opening_hours"
    confidence: float | None = 0.93
    was_interrupted: bool = False
    is_silent: bool = False
    sent_ms: int | None = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    call_id: str
    tenant: str = "acme"
    agent: str = "desk"
    agent_version: str = "17-3fa9c04d11ab"
    subject: str = SUBJECT
    transport: str = "sip"
    started_ms: int = BEGAN_MS
    duration_ms: int = 60_000
    outcome: str | None = "contained"
    reason: str | None = None
    first_audio_ms: int | None = 40
    turns: tuple[Turn, ...] = field(default=(Turn(),))


class NodeRecords:
    """One database for each tenant in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def add(self, *calls: Call) -> None:
        """Write calls that have ended."""
        for call in calls:
            connection = self._open(call.tenant)
            with connection:
                _insert(connection, call)
            connection.close()

    def _open(self, tenant: str) -> apsw.Connection:
        path = self.directory / f"{tenant}.sqlite3"
        is_new = not path.exists()
        connection = apsw.Connection(str(path))
        connection.set_busy_timeout(5_000)
        if is_new:
            connection.execute("PRAGMA journal_mode = WAL")
            with connection:
                for name in SCHEMA:
                    connection.execute((resources.files("edge.records") / "migrations" / name).read_text("utf-8"))
        return connection


def _insert(connection: apsw.Connection, call: Call) -> None:
    ended_ms = call.started_ms + call.duration_ms
    connection.execute(
        INSERT_CALL,
        (
            call.call_id,
            call.tenant,
            call.agent,
            call.agent_version,
            call.subject,
            call.transport,
            call.started_ms,
            call.started_ms,
            ended_ms,
            call.outcome,
            call.reason,
            call.first_audio_ms,
        ),
    )
    for seq, turn in enumerate(call.turns):
        row = (call.call_id, seq, call.started_ms + 1_000 * seq, turn.intent, turn.confidence)
        connection.execute(
            INSERT_TURN, (*row, turn.was_interrupted, turn.is_silent, turn.sent_ms and turn.sent_ms - 4, turn.sent_ms)
        )
    connection.execute("INSERT INTO ended_calls (call_id) VALUES (?)", (call.call_id,))
