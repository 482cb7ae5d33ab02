"""The audit log of a tenant: a hash chain in the tenant's own database.

Theory of operation. An entry carries the SHA-256 over its predecessor's hash and its own content, so an entry that is
changed, removed or put in between breaks the chain at its place. Entries are appended inside the transaction that does
what they tell (BEGIN IMMEDIATE: several workers append one after the other), so neither exists without the other.

A chain alone does not show that its end was cut off. Its end is therefore noted every few seconds in the tenant's key
database, signed with a key derived from the node's master key (`audit_anchor`): a chain that lacks the noted entry was
cut, or replaced; a note that is missing, or that no key of the node signed, was tampered with. What can be cut unseen
is what was appended since the last note, at most `ANCHOR_EVERY_S` of it; who holds the master key and both files can
forge all. Replicas of both databases are the witness against that.

The end of a call is entered with digests over its turns, so `verify` also finds a turn that was changed, added or
removed later. A call that was erased is no fault when its erasure is entered.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

import apsw

from edge.records.database import Cell

ANCHOR_EVERY_S = 5.0
GENESIS = b"borough audit 1\x1f"
# Named columns: a migration that adds one must not change the digests of old calls.
DIGESTED_TURNS = """
SELECT seq, began_at, intent, confidence, citations, was_interrupted, is_silent
FROM turns WHERE call_id = ? ORDER BY seq
"""
DIGESTED_CONTENTS = """
SELECT seq, subject_id, key_id, caller_text, agent_text FROM turn_contents WHERE call_id = ? ORDER BY seq
"""


class AuditAction(StrEnum):
    """What an entry tells."""

    CALL_STARTED = "call_started"
    CALL_ANSWERED = "call_answered"
    CALL_ADOPTED = "call_adopted"
    CALL_CLAIMED = "call_claimed"
    CALL_RESUMES = "call_resumes"
    CALL_RESUMED = "call_resumed"
    CALL_ENDED = "call_ended"
    CALL_AMENDED = "call_amended"
    TRANSFER = "transfer"
    KEY_CREATED = "key_created"
    KEY_DESTROYING = "key_destroying"
    KEY_DESTROYED = "key_destroyed"
    CALL_ERASED = "call_erased"
    CONSENT_GIVEN = "consent_given"
    CONSENT_REFUSED = "consent_refused"
    RECORDS_READ = "records_read"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One link. `target` is what it is about (a call id, a key id, a tenant); `at_ms` UTC since 1970."""

    seq: int
    at_ms: int
    actor: str
    action: AuditAction
    target: str
    detail: Mapping[str, str | int | None]
    previous: bytes
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditTrail:
    """Appends to the chain of one tenant in the name of one actor, inside the connection's transaction."""

    connection: apsw.Connection
    tenant: str
    actor: str

    def append(self, action: AuditAction, target: str, **detail: str | int | None) -> None:
        """Add a link; the caller holds BEGIN IMMEDIATE."""
        last, previous = self.head()
        seq, at, text = last + 1, time.time_ns() // 1_000_000, canonical(detail)
        digest = link(previous, (seq, at, self.actor, action, target, text))
        self.connection.execute(
            "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (seq, at, self.actor, action, target, text, previous, digest),
        )

    def head(self) -> tuple[int, bytes]:
        """Number and hash of the last link; 0 and the tenant's own beginning when there is none."""
        for seq, digest in self.connection.execute("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1"):
            return int(str(seq)), bytes(digest)
        return 0, genesis(self.tenant)

    def has(self, seq: int, digest: bytes) -> bool:
        """Whether the chain has this hash at this place."""
        if seq == 0:
            return digest == genesis(self.tenant)
        found: Cell = self.connection.execute("SELECT hash FROM audit WHERE seq = ?", (seq,)).get
        return found == digest

    def tells(self, action: AuditAction, target: str) -> bool:
        """Whether this was entered before."""
        sql = "SELECT 1 FROM audit WHERE target = ? AND action = ? LIMIT 1"
        return self.connection.execute(sql, (target, action)).get is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnDigests:
    """SHA-256 over the turns of a call: over what is no personal content, and over the sealed content."""

    turns: str
    contents: str


def genesis(tenant: str) -> bytes:
    """What the first link follows: chains of two tenants cannot be exchanged."""
    return hashlib.sha256(GENESIS + tenant.encode()).digest()


def canonical(detail: Mapping[str, str | int | None]) -> str:
    """One spelling of a detail."""
    return json.dumps(detail, sort_keys=True, separators=(",", ":"))


def link(previous: bytes, content: tuple[int, int, str, str, str, str]) -> bytes:
    """The hash of an entry (seq, at, actor, action, target, detail) after its predecessor."""
    return hashlib.sha256(previous + json.dumps(content, separators=(",", ":")).encode()).digest()


def read_entries(connection: apsw.Connection) -> Iterator[AuditEntry]:
    """The chain as it stands, unverified."""
    for seq, at, actor, action, target, detail, previous, digest in connection.execute(
        "SELECT seq, at, actor, action, target, detail, previous, hash FROM audit ORDER BY seq"
    ):
        yield AuditEntry(
            seq=int(str(seq)),
            at_ms=int(str(at)),
            actor=str(actor),
            action=AuditAction(str(action)),
            target=str(target),
            detail=json.loads(str(detail)),
            previous=bytes(previous),
            hash=bytes(digest),
        )


def digest_turns(connection: apsw.Connection, call_id: str) -> TurnDigests:
    """Over all turns of a call, in order."""
    return TurnDigests(
        turns=_digest(connection.execute(DIGESTED_TURNS, (call_id,))),
        contents=_digest(connection.execute(DIGESTED_CONTENTS, (call_id,))),
    )


def _digest(found: apsw.Cursor) -> str:
    total = hashlib.sha256()
    for row in found:
        for cell in row:
            piece = cell if isinstance(cell, bytes) else repr(cell).encode()
            total.update(len(piece).to_bytes(8, "big") + piece)
        total.update(b"\n")
    return total.hexdigest()
