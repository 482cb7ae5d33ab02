"""Who did what at the hub, in a chain: each entry holds the hash before it, and its own hash covers both.

What a whole chain proves: nobody changed, removed or inserted single entries by mistake or with SQL alone, and no
release or restore mixed two histories. Entries missing at the end are noticed because SQLite remembers the highest
number it gave out. What it does not prove: the hashes have no key and the head is noted nowhere else, so whoever can
write the file can compute the whole chain anew. Against that helps only what left the hub before: entries that somebody
listed and keeps elsewhere.
"""

import hashlib
import json
import time
from dataclasses import dataclass

import apsw

from controlplane.database import HubDatabase

GENESIS = b"\0" * 32
ALLOWED = "ok"
LEASE_TAKEN = "lease.taken"
DATABASE_RESTORED = "database.restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One entry of the chain."""

    seq: int
    at_ms: int
    actor: str
    role: str
    action: str
    target: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerdict:
    """`first_broken_seq` is 0 when the chain is whole."""

    entries: int
    first_broken_seq: int


class AuditLog:
    """Appends to the chain, lists and verifies it."""

    def __init__(self, database: HubDatabase) -> None:
        self._database = database

    async def append(self, *, actor: str, role: str, action: str, target: str, outcome: str = ALLOWED) -> None:
        """Store an entry; returns when it is on disk."""

        def write(connection: apsw.Connection) -> None:
            append_entry(connection, actor=actor, role=role, action=action, target=target, outcome=outcome)

        await self._database.write(write)

    async def newest(self, limit: int) -> list[AuditEntry]:
        """The newest entries first."""
        return await self._database.read(lambda connection: _newest(connection, limit))

    async def verify(self) -> AuditVerdict:
        """Walk the whole chain and find the first entry that does not fit."""
        return await self._database.read(verify_chain)


def append_entry(
    connection: apsw.Connection, *, actor: str, role: str, action: str, target: str, outcome: str = ALLOWED
) -> None:
    """Append inside a transaction of the caller, so that a change and its entry are stored together."""
    newest = connection.execute("SELECT seq, hash FROM audit_entries ORDER BY seq DESC LIMIT 1").fetchone()
    before = bytes(newest[1]) if newest else GENESIS
    highest = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit_entries'").get
    entry = AuditEntry(
        seq=(int(str(highest)) if highest is not None else 0) + 1,
        at_ms=time.time_ns() // 1_000_000,
        actor=actor,
        role=role,
        action=action,
        target=target,
        outcome=outcome,
    )
    connection.execute(
        "INSERT INTO audit_entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            entry.seq,
            entry.at_ms,
            entry.actor,
            entry.role,
            entry.action,
            entry.target,
            entry.outcome,
            before,
            _hash(before, entry),
        ),
    )


def verify_chain(connection: apsw.Connection) -> AuditVerdict:
    """Walk the whole chain; a gap, a changed entry and a missing end are broken at the first wrong number."""
    before, count = GENESIS, 0
    rows = connection.execute(f"SELECT {_COLUMNS}, previous_hash, hash FROM audit_entries ORDER BY seq")  # noqa: S608 - a constant
    for row in rows:
        count += 1
        entry = _entry(row)
        previous, own = bytes(row[7]), bytes(row[8])
        if entry.seq != count or previous != before or own != _hash(before, entry):
            return AuditVerdict(entries=count, first_broken_seq=count)
        before = own
    highest = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'audit_entries'").get
    is_short = highest is not None and int(str(highest)) > count
    return AuditVerdict(entries=count, first_broken_seq=count + 1 if is_short else 0)


_COLUMNS = "seq, at_ms, actor, role, action, target, outcome"


def _newest(connection: apsw.Connection, limit: int) -> list[AuditEntry]:
    query = f"SELECT {_COLUMNS} FROM audit_entries ORDER BY seq DESC LIMIT ?"  # noqa: S608 - a constant
    return [_entry(row) for row in connection.execute(query, (limit,))]


def _entry(row: tuple[object, ...]) -> AuditEntry:
    return AuditEntry(
        seq=int(str(row[0])),
        at_ms=int(str(row[1])),
        actor=str(row[2]),
        role=str(row[3]),
        action=str(row[4]),
        target=str(row[5]),
        outcome=str(row[6]),
    )


def _hash(before: bytes, entry: AuditEntry) -> bytes:
    facts = [entry.seq, entry.at_ms, entry.actor, entry.role, entry.action, entry.target, entry.outcome]
    return hashlib.sha256(before + json.dumps(facts, ensure_ascii=True).encode()).digest()
