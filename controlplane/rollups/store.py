"""SQL of the rollups: what was counted, by whom, and how far the stream was read. Runs inside HubDatabase's threads."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256

import apsw

from contract.rollups import EntrySum, coarsened, key_of
from contract.uplink_pb2 import Entry, Rollup

# Rows moved in one transaction: bounds how long rollups wait for the writer.
ROWS_AT_ONCE = 2_000
# All are counted; the newest can be looked at.
REFUSALS_KEPT = 10_000
# Beyond it a rollup that is not known yet is refused.
MOST_KEPT = 10_000


class Outcome(StrEnum):
    """What became of a rollup."""

    COUNTED = "counted"
    # Seen before: its answer was lost, and the node sent it again.
    REPEATED = "repeated"
    # Another one with this number was counted before: a node was restored or copied.
    CONFLICTING = "conflicting"
    REFUSED = "refused"
    # Names what the hub does not know yet: it stays in the stream and is tried again.
    KEPT = "kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSums:
    """What the store has of one node since it began."""

    region: str
    node: str
    counted: int
    repeated: int
    conflicting: int
    calls: int
    turns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A message that was refused. Region and node are empty where the subject held no name."""

    stream_seq: int
    sent_at_ms: int
    region: str
    node: str
    problem: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which entries; minutes since 1970, the last one excluded. None and empty choose all."""

    region: str = ""
    tenant: str = ""
    first_minute: int = 0
    end_minute: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry:
    """An entry of a region."""

    region: str
    entry: Entry


def count(connection: apsw.Connection, rollup: Rollup, payload: bytes, now_ms: int) -> Outcome:
    """Add a rollup to the sums, once."""
    node = (rollup.region, rollup.node)
    connection.execute("INSERT INTO rollup_nodes (region, node) VALUES (?, ?) ON CONFLICT DO NOTHING", node)
    outcome = _seen(connection, rollup, payload)
    connection.execute(
        f"UPDATE rollup_nodes SET {outcome} = {outcome} + 1 WHERE region = ? AND node = ?",  # noqa: S608 - an enum
        node,
    )
    if outcome is not Outcome.COUNTED:
        return outcome
    connection.execute(
        "INSERT INTO rollup_seqs VALUES (?, ?, ?, ?, ?)", (*node, rollup.seq, sha256(payload).digest(), now_ms)
    )
    for entry in rollup.entries:
        _add_entry(connection, rollup.region, entry)
    calls = sum(entry.calls.total for entry in rollup.entries)
    turns = sum(entry.turns.total for entry in rollup.entries)
    sums = "UPDATE rollup_nodes SET calls = calls + ?, turns = turns + ? WHERE region = ? AND node = ?"
    connection.execute(sums, (calls, turns, *node))
    return outcome


def refuse(connection: apsw.Connection, refusal: Refusal) -> None:
    """Note a refusal, once for each message."""
    row = (refusal.stream_seq, refusal.sent_at_ms, refusal.region, refusal.node, refusal.problem)
    connection.execute("INSERT INTO rollup_refusals VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", row)
    connection.execute("UPDATE rollup_position SET refused = refused + ?", (connection.changes(),))


def keep(connection: apsw.Connection, stream_seq: int, sent_at_ms: int, now_ms: int) -> bool:
    """Note that a message is to be tried again; returns whether there was room."""
    connection.execute("UPDATE rollup_kept SET tried_at_ms = ? WHERE stream_seq = ?", (now_ms, stream_seq))
    if connection.changes():
        return True
    if _integer(connection.execute("SELECT count(*) FROM rollup_kept").get) >= MOST_KEPT:
        return False
    connection.execute("INSERT INTO rollup_kept VALUES (?, ?, ?)", (stream_seq, sent_at_ms, now_ms))
    return True


def kept(connection: apsw.Connection, tried_before_ms: int, limit: int) -> list[int]:
    """Messages to be tried again, those first that wait longest."""
    sql = "SELECT stream_seq FROM rollup_kept WHERE tried_at_ms < ? ORDER BY tried_at_ms LIMIT ?"
    return [_integer(seq) for (seq,) in connection.execute(sql, (tried_before_ms, limit))]


def drop_kept(connection: apsw.Connection, stream_seq: int) -> None:
    """It is counted, refused or gone."""
    connection.execute("DELETE FROM rollup_kept WHERE stream_seq = ?", (stream_seq,))


def read_position(connection: apsw.Connection) -> int:
    """The last message of the stream that was counted or refused."""
    return _integer(connection.execute("SELECT stream_seq FROM rollup_position").get)


def move_position(connection: apsw.Connection, stream_seq: int) -> None:
    """All messages up to this one were counted or refused."""
    connection.execute("UPDATE rollup_position SET stream_seq = ?", (stream_seq,))


def read_nodes(connection: apsw.Connection) -> tuple[NodeSums, ...]:
    """What the store has of each node."""
    sql = "SELECT region, node, counted, repeated, conflicting, calls, turns FROM rollup_nodes ORDER BY region, node"
    return tuple(
        NodeSums(
            region=str(region),
            node=str(node),
            counted=_integer(counted),
            repeated=_integer(repeated),
            conflicting=_integer(conflicting),
            calls=_integer(calls),
            turns=_integer(turns),
        )
        for region, node, counted, repeated, conflicting, calls, turns in connection.execute(sql).fetchall()
    )


def count_refusals(connection: apsw.Connection) -> int:
    """How many messages were refused since the store began."""
    return _integer(connection.execute("SELECT refused FROM rollup_position").get)


def read_refusals(connection: apsw.Connection, limit: int) -> tuple[Refusal, ...]:
    """The newest refusals first."""
    sql = (
        "SELECT stream_seq, sent_at_ms, region, node, problem FROM rollup_refusals"
        " ORDER BY sent_at_ms DESC, stream_seq DESC LIMIT ?"
    )
    return tuple(
        Refusal(
            stream_seq=_integer(seq), sent_at_ms=_integer(at), region=str(region), node=str(node), problem=str(problem)
        )
        for seq, at, region, node, problem in connection.execute(sql, (limit,)).fetchall()
    )


def read_entries(connection: apsw.Connection, selection: Selection) -> Iterator[StoredEntry]:
    """Entries by region and tenant; one that covers more than a minute is chosen by its first."""
    conditions, values = ["minute >= ?"], [selection.first_minute, *_end(selection)]
    if selection.end_minute is not None:
        conditions.append("minute < ?")
    names: Mapping[str, str] = {"region": selection.region, "tenant": selection.tenant}
    chosen = {column: name for column, name in names.items() if name}
    conditions += [f"{column} = ?" for column in chosen]
    sql = f"SELECT region, body FROM rollup_entries WHERE {' AND '.join(conditions)} ORDER BY region, tenant"  # noqa: S608
    for region, body in connection.execute(sql, (*values, *chosen.values())):
        assert isinstance(body, bytes)
        yield StoredEntry(region=str(region), entry=Entry.FromString(body))


def coarsen(connection: apsw.Connection, *, before_minute: int, step_minutes: int) -> int:
    """Merge entries before this minute that are finer than the step; returns how many rows were merged, at most
    ROWS_AT_ONCE."""
    rows = connection.execute(
        "DELETE FROM rollup_entries WHERE rowid IN (SELECT rowid FROM rollup_entries WHERE step_minutes < ?"
        " AND minute < ? ORDER BY minute LIMIT ?) RETURNING region, body",
        (step_minutes, before_minute - before_minute % step_minutes, ROWS_AT_ONCE),
    ).fetchall()
    by_region: dict[str, list[Entry]] = {}
    for region, body in rows:
        assert isinstance(body, bytes)
        by_region.setdefault(str(region), []).append(Entry.FromString(body))
    for region, entries in by_region.items():
        for entry in coarsened(entries, step_minutes):
            _add_entry(connection, region, entry, step_minutes)
    return len(rows)


def forget(connection: apsw.Connection, *, entries_before_minute: int, seqs_before_ms: int) -> None:
    """Delete entries that are too old, and turn old numbers of rollups into each node's floor."""
    connection.execute("DELETE FROM rollup_entries WHERE minute < ?", (entries_before_minute,))
    connection.execute(
        "UPDATE rollup_nodes SET floor_seq = max(floor_seq, coalesce((SELECT max(seq) FROM rollup_seqs AS old"
        " WHERE old.region = rollup_nodes.region AND old.node = rollup_nodes.node AND counted_at_ms < ?), 0))",
        (seqs_before_ms,),
    )
    connection.execute("DELETE FROM rollup_seqs WHERE counted_at_ms < ?", (seqs_before_ms,))
    connection.execute(
        "DELETE FROM rollup_refusals WHERE sent_at_ms < (SELECT sent_at_ms FROM rollup_refusals"
        " ORDER BY sent_at_ms DESC LIMIT 1 OFFSET ?)",
        (REFUSALS_KEPT,),
    )


def _seen(connection: apsw.Connection, rollup: Rollup, payload: bytes) -> Outcome:
    key = (rollup.region, rollup.node, rollup.seq)
    digest = connection.execute("SELECT sha256 FROM rollup_seqs WHERE region = ? AND node = ? AND seq = ?", key).get
    if digest is not None:
        return Outcome.REPEATED if digest == sha256(payload).digest() else Outcome.CONFLICTING
    floor = connection.execute("SELECT floor_seq FROM rollup_nodes WHERE region = ? AND node = ?", key[:2]).get
    return Outcome.REPEATED if rollup.seq <= _integer(floor) else Outcome.COUNTED


def _add_entry(connection: apsw.Connection, region: str, entry: Entry, step_minutes: int = 1) -> None:
    key = (region, entry.tenant, entry.minute, entry.agent, entry.agent_version, entry.intent)
    stored = connection.execute(
        "SELECT body FROM rollup_entries WHERE region = ? AND tenant = ? AND minute = ? AND agent = ?"
        " AND agent_version = ? AND intent = ?",
        key,
    ).get
    if isinstance(stored, bytes):
        total = EntrySum()
        total.add(Entry.FromString(stored))
        total.add(entry)
        entry = total.entry(key_of(entry))
    body = entry.SerializeToString()
    connection.execute(
        "INSERT INTO rollup_entries VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body,"
        " step_minutes = max(step_minutes, excluded.step_minutes)",
        (*key, step_minutes, body),
    )


def _end(selection: Selection) -> list[int]:
    return [] if selection.end_minute is None else [selection.end_minute]


def _integer(cell: object) -> int:
    assert isinstance(cell, int)
    return cell
