"""SQL of the ledger: rollups that wait, watermarks, totals. Runs on whichever thread owns the connection."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from hashlib import sha256

import apsw

from contract.uplink_pb2 import Entry, Rollup
from edge.records.database import Cell
from edge.rollups.reading import Counted, Ended

# Enough to find where restored records and the ledger parted; a restore loses a second, not a thousand calls.
PLACES_KEPT = 1_000
# Two months of one rollup a minute.
CONFIRMED_KEPT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Sums over all entries of a tenant."""

    calls: int = 0
    contained: int = 0
    escalated: int = 0
    abandoned: int = 0
    failed: int = 0
    repeated: int = 0
    turns: int = 0
    interrupted: int = 0
    silent: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A rollup in the outbox, and how many minutes its entries cover."""

    seq: int
    body: bytes
    step_minutes: int = 1


_TOTALS = [field.name for field in fields(Totals)]
_ADD_TOTALS = (
    f"INSERT INTO totals VALUES (?, ?, {', '.join('?' for _ in _TOTALS)}) ON CONFLICT DO UPDATE SET "  # noqa: S608
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in _TOTALS)
)
_UNOFFERED = "SELECT seq, body, step_minutes FROM outbox WHERE is_offered = 0 AND step_minutes <= ?"


def take_seqs(connection: apsw.Connection, count: int) -> int:
    """Reserve so many numbers for rollups; returns the first."""
    first = _integer(connection.execute("SELECT next_seq FROM owner").get)
    connection.execute("UPDATE owner SET next_seq = next_seq + ?", (count,))
    return first


def put(connection: apsw.Connection, rollup: Waiting) -> None:
    """Let a rollup wait."""
    connection.execute(
        "INSERT INTO outbox (seq, body, step_minutes) VALUES (?, ?, ?)",
        (rollup.seq, rollup.body, rollup.step_minutes),
    )


def offer(connection: apsw.Connection, limit: int) -> list[Waiting]:
    """The oldest ones; they never change after this."""
    rows = connection.execute("SELECT seq, body, step_minutes FROM outbox ORDER BY seq LIMIT ?", (limit,)).fetchall()
    if rows:
        connection.execute("UPDATE outbox SET is_offered = 1 WHERE seq <= ? AND is_offered = 0", (rows[-1][0],))
    return [_waiting(row) for row in rows]


def unoffered(connection: apsw.Connection, *, step_minutes: int, limit_bytes: int) -> list[Waiting]:
    """Neighbours that were never offered, about so many bytes together, around the oldest one that is finer than the
    step: what is merged with it already, and what comes after it. Empty when none is finer."""
    first = connection.execute(
        "SELECT min(seq) FROM outbox WHERE is_offered = 0 AND step_minutes < ?", (step_minutes,)
    ).get
    if first is None:
        return []
    before = connection.execute(f"{_UNOFFERED} AND seq < ? ORDER BY seq DESC", (step_minutes, first))
    after = connection.execute(f"{_UNOFFERED} AND seq >= ? ORDER BY seq", (step_minutes, first))
    merged = _taken(before, limit_bytes // 2)
    return [*reversed(merged), *_taken(after, limit_bytes // 2)]


def _taken(rows: Iterable[tuple[Cell, ...]], limit_bytes: int) -> list[Waiting]:
    """The first rows up to so many bytes, but one at least."""
    taken: list[Waiting] = []
    for row in rows:
        rollup = _waiting(row)
        limit_bytes -= len(rollup.body)
        if taken and limit_bytes < 0:
            break
        taken.append(rollup)
    return taken


def drop(connection: apsw.Connection, seqs: Iterable[int]) -> None:
    """Take rollups out of the outbox."""
    connection.executemany("DELETE FROM outbox WHERE seq = ?", ((seq,) for seq in seqs))


def confirm(connection: apsw.Connection, seq: int) -> bool:
    """The hub has it; False if it does not wait (any more)."""
    body = connection.execute("DELETE FROM outbox WHERE seq = ? RETURNING body", (seq,)).get
    if not isinstance(body, bytes):
        return False
    add_totals(connection, Rollup.FromString(body).entries, is_confirmed=True)
    connection.execute("INSERT INTO confirmed VALUES (?, ?)", (seq, sha256(body).digest()))
    connection.execute("DELETE FROM confirmed WHERE seq <= ?", (seq - CONFIRMED_KEPT,))
    return True


def count_waiting(connection: apsw.Connection) -> int:
    """How many rollups wait."""
    return _integer(connection.execute("SELECT count(*) FROM outbox").get)


def waiting_bytes(connection: apsw.Connection) -> int:
    """How much of the disk they need."""
    return _integer(connection.execute("SELECT coalesce(sum(length(body)), 0) FROM outbox").get)


def has_coarse(connection: apsw.Connection) -> bool:
    """Whether any waiting rollup had to be made coarser."""
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM outbox WHERE step_minutes > 1)").get)


def read_counted(connection: apsw.Connection, tenant: str) -> Counted:
    """How far a tenant's calls were counted."""
    row = connection.execute("SELECT seq, told_seq FROM watermarks WHERE tenant = ?", (tenant,)).fetchone()
    if row is None:
        return Counted()
    places = connection.execute("SELECT seq, call_id FROM counted_calls WHERE tenant = ?", (tenant,))
    return Counted(
        watermark=_integer(row[0]),
        told=_integer(row[1]),
        places={_integer(seq): str(call_id) for seq, call_id in places.fetchall()},
    )


def move_watermark(connection: apsw.Connection, tenant: str, ended: Ended, *, told: int) -> None:
    """These calls are counted, and the region has heard of the list up to `told`."""
    last = ended.calls[-1].seq if ended.calls else ended.after
    connection.execute(
        "INSERT INTO watermarks (tenant, seq, told_seq) VALUES (?, ?, ?) "
        "ON CONFLICT (tenant) DO UPDATE SET seq = excluded.seq, told_seq = excluded.told_seq",
        (tenant, last, told),
    )
    connection.execute(
        "DELETE FROM counted_calls WHERE tenant = ? AND (seq > ? OR seq <= ?)",
        (tenant, ended.after, last - PLACES_KEPT),
    )
    places = [(tenant, call.seq, call.call_id) for call in ended.calls if call.seq > last - PLACES_KEPT]
    connection.executemany("INSERT INTO counted_calls VALUES (?, ?, ?)", places)


def add_totals(connection: apsw.Connection, entries: Iterable[Entry], *, is_confirmed: bool) -> None:
    """Add entries to the sums of what was cut, or of what was confirmed."""
    rows = ((int(is_confirmed), entry.tenant, *_counts(entry)) for entry in entries)
    connection.executemany(_ADD_TOTALS, rows)


def read_totals(connection: apsw.Connection, *, is_confirmed: bool) -> Mapping[str, Totals]:
    """The sums by tenant."""
    sql = f"SELECT tenant, {', '.join(_TOTALS)} FROM totals WHERE is_confirmed = ?"  # noqa: S608 - our own names
    rows = connection.execute(sql, (int(is_confirmed),)).fetchall()
    return {str(tenant): Totals(**dict(zip(_TOTALS, map(_integer, counts), strict=True))) for tenant, *counts in rows}


def _counts(entry: Entry) -> tuple[int, ...]:
    calls, turns = entry.calls, entry.turns
    return (
        calls.total,
        calls.contained,
        sum(calls.escalated.values()),
        calls.abandoned,
        calls.failed,
        calls.repeated,
        turns.total,
        turns.interrupted,
        turns.silent,
    )


def _waiting(row: tuple[Cell, ...]) -> Waiting:
    seq, body, step_minutes = row
    assert isinstance(body, bytes)
    return Waiting(seq=_integer(seq), body=body, step_minutes=_integer(step_minutes))


def _integer(cell: Cell) -> int:
    assert isinstance(cell, int)
    return cell
