"""The node's ledger of rollups: every ended call is counted in exactly one, and none is lost before the hub has it.

Theory of operation. A cut reads what ended since the watermark of each tenant, and writes the rollups made of it and
the new watermarks in one transaction: a crash leaves both or neither. `waiting` hands out the oldest rollups and marks
them as offered; from then on they never change, because the hub may have them although its answer was lost. The hub
counts (region, node, seq) once. `confirm` moves a rollup from the outbox to the sums of what was sent.

Bound on disk. The outbox holds at most `limit_bytes` (64 MiB: some weeks of a busy node's minutes). Above it the oldest
rollups that were never offered are merged by the hour, then by the day; counts and percentiles stay whole, minutes are
lost. After that it grows by one entry a day for each tenant, agent, version and intent only. Beside it the file holds
1,000 places a tenant and 100,000 digests, 10 MB at most.

The first number of a new ledger is the time, in steps of nine seconds: a node that was set up anew repeats no number,
unless it had made more than one rollup every nine seconds all its life. (The border lets no number pass 100,000,000.)

Any thread may call; every method blocks, one at a time.
"""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import Self

import apsw
import structlog

from contract.rollups import coarsened
from contract.uplink_pb2 import Capacity, Entry, Rollup
from edge.records.database import DatabaseSettings, Migration, migrate, tenants_in
from edge.rollups import outbox
from edge.rollups.assembling import busiest, guarded, parts_of
from edge.rollups.cut import EndedCall, count
from edge.rollups.errors import LedgerError, LedgerOwnerError
from edge.rollups.outbox import Totals, Waiting
from edge.rollups.reading import NOT_TOLD, Batch, Ended, ListedCall, read_ended
from edge.shared_folder import make_protected

log = structlog.get_logger(__name__)

# Bounds a transaction, and what a cut holds in memory.
CALLS_AT_ONCE = 500
# Half of what the hub's stream accepts (contract/streams.py, MAX_UP_BYTES).
ROLLUP_BYTES = 256 * 1024
# How many rollups may be on their way: so many cannot be made coarser while the hub is away.
OFFERED_AT_ONCE = 64
HOUR, DAY = 60, 1440
# 2026-01-01, UTC. Numbers last for 28 years.
SEQ_EPOCH_S = 1_767_225_600
SEQ_STEP_S = 9
# Merging is done in parts, to bound memory.
PARTS_OF_LIMIT = 4
BUSY_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerSettings:
    """`limit_bytes` is the bound of the outbox; `is_replicated`: Litestream is attached, and checkpoints."""

    limit_bytes: int = 64 * 1024 * 1024
    rollup_bytes: int = ROLLUP_BYTES
    is_replicated: bool = False
    records: DatabaseSettings = field(default_factory=DatabaseSettings)


class RollupLedger:
    """The rollups of one node. `alarm` is told after each change whether any waiting rollup had to be made coarser."""

    def __init__(
        self,
        path: Path,
        region: str,
        node: str,
        *,
        settings: LedgerSettings | None = None,
        alarm: Callable[[bool], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._region = region
        self._node = node
        self._settings = settings or LedgerSettings()
        self._alarm = alarm
        self._clock = clock
        self._open: apsw.Connection | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Raises LedgerError or LedgerOwnerError."""
        with self._named():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            make_protected(self._path)
            connection = apsw.Connection(str(self._path))
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
            self._open = connection
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    def cut(self, records: Path, now: float, capacity: Capacity | None = None, *, step_minutes: int = 1) -> int:
        """Count all calls that have ended by now (Unix seconds), as this node knows them; returns how many rollups it
        took. Raises LedgerError."""
        made = 0
        while True:
            batch = self.read(records, now)
            made += self.store(batch, now, capacity if not made else None, step_minutes=step_minutes)
            if not batch.holds_calls:
                return made

    def read(self, records: Path, now: float) -> Batch:
        """The calls to be counted next, CALLS_AT_ONCE at most; nothing changes until they are stored.

        A tenant whose records cannot be read now is counted at a later cut. Raises LedgerError.
        """
        with self._lock:
            return self._read_batch(records, round(now * 1000))

    def store(
        self,
        batch: Batch,
        now: float,
        capacity: Capacity | None = None,
        *,
        step_minutes: int = 1,
        told: Mapping[str, bool] = NOT_TOLD,
    ) -> int:
        """Count what was read last; returns how many rollups it took. Raises LedgerError.

        `capacity` goes with the first rollup. `step_minutes`: where the disk is nearly full, HOUR takes less of it.
        `told`: by call id what the region answered, whether the call is a repeat; the others are judged by the node's
        own records, and the region hears of them later.
        """
        with self._lock:
            return self._count(batch, round(now * 1000), capacity, step_minutes, told)

    def _count(
        self, batch: Batch, now_ms: int, capacity: Capacity | None, step_minutes: int, told: Mapping[str, bool]
    ) -> int:
        made = 0
        entries = guarded(count(_judged(listed, told) for ended in batch.tenants.values() for listed in ended.calls))
        if step_minutes > 1:
            entries = coarsened(entries, step_minutes)
        if not batch.holds_calls and capacity is not None and not (capacity.slots_used_peak or capacity.refused):
            capacity = None
        if batch.holds_calls or capacity is not None or told:
            made = self._store(batch, entries, now_ms, capacity, told)
        if not batch.holds_calls:
            self._keep_within_limit()
        return made

    def waiting(self, limit: int = OFFERED_AT_ONCE) -> list[tuple[int, bytes]]:
        """The oldest rollups that the hub has not confirmed, by seq. Raises LedgerError."""
        with self._lock, self._transaction() as connection:
            return [(rollup.seq, rollup.body) for rollup in outbox.offer(connection, limit)]

    def confirm(self, seq: int) -> None:
        """The hub's stream has this rollup; saying so twice changes nothing. Raises LedgerError."""
        with self._lock:
            with self._transaction() as connection:
                outbox.confirm(connection, seq)
            self._tell()

    @property
    def waiting_count(self) -> int:
        """How many rollups the hub has not confirmed."""
        with self._lock, self._named():
            return outbox.count_waiting(self._connection)

    def totals(self, *, is_confirmed: bool) -> Mapping[str, Totals]:
        """Sums by tenant of all that was cut, or of all that the hub has confirmed."""
        with self._lock, self._named():
            return outbox.read_totals(self._connection, is_confirmed=is_confirmed)

    def _prepare(self, connection: apsw.Connection) -> None:
        connection.set_busy_timeout(round(BUSY_TIMEOUT_S * 1000))
        # One by one: apsw stops after the first statement that returns a row.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        if self._settings.is_replicated:
            connection.wal_autocheckpoint(0)
            connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        migrate(connection, _migrations())
        connection.execute(
            "INSERT INTO owner SELECT ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM owner)",
            (self._region, self._node, max(1, int((self._clock() - SEQ_EPOCH_S) / SEQ_STEP_S))),
        )
        owner = connection.execute("SELECT region, node FROM owner").fetchone()
        if owner != (self._region, self._node):
            raise LedgerOwnerError(f"{self._path} belongs to another node than {self._region}/{self._node}")

    def _read_batch(self, records: Path, now_ms: int) -> Batch:
        batch: dict[str, Ended] = {}
        room = CALLS_AT_ONCE
        for tenant in tenants_in(records):
            with self._named():
                counted = outbox.read_counted(self._connection, tenant)
            try:
                ended = read_ended(records, tenant, self._settings.records, counted, limit=room, now_ms=now_ms)
            except apsw.Error as error:
                log.warning("records_not_counted", tenant=tenant, error=type(error).__name__)
                continue
            if ended.after < counted.watermark:
                log.warning("records_went_back", tenant=tenant, counted=counted.watermark, found=ended.after)
            if ended.calls or ended.untold:
                batch[tenant] = ended
                room -= len(ended.calls)
            if room <= 0:
                break
        return Batch(tenants=batch)

    def _store(
        self,
        batch: Batch,
        entries: list[Entry],
        now_ms: int,
        capacity: Capacity | None,
        told: Mapping[str, bool],
    ) -> int:
        parts = parts_of(entries, self._settings.rollup_bytes)
        if not parts and (batch.holds_calls or capacity is not None):
            parts = [[]]
        with self._transaction() as connection:
            first = outbox.take_seqs(connection, len(parts))
            for index, part in enumerate(parts):
                body = self._body(first + index, part, now_ms, capacity if not index else None)
                outbox.put(connection, Waiting(seq=first + index, body=body))
            outbox.add_totals(connection, entries, is_confirmed=False)
            for tenant, ended in batch.tenants.items():
                outbox.move_watermark(connection, tenant, ended, told=ended.told_with(told.keys()))
        return len(parts)

    def _body(self, seq: int, entries: Sequence[Entry], cut_at_ms: int, capacity: Capacity | None) -> bytes:
        rollup = Rollup(
            region=self._region,
            node=self._node,
            seq=seq,
            cut_at_ms=cut_at_ms,
            entries=entries,
            capacity=capacity,
        )
        return rollup.SerializeToString(deterministic=True)

    def _keep_within_limit(self) -> None:
        limit = self._settings.limit_bytes
        for step_minutes in (HOUR, DAY):
            while self._size() > limit and self._coarsen(step_minutes, limit // PARTS_OF_LIMIT):
                pass
        self._tell()

    def _size(self) -> int:
        with self._named():
            return outbox.waiting_bytes(self._connection)

    def _coarsen(self, step_minutes: int, part_bytes: int) -> bool:
        """Merge the oldest rollups that nobody was offered; False when there is nothing left to merge."""
        with self._transaction() as connection:
            waiting = outbox.unoffered(connection, step_minutes=step_minutes, limit_bytes=part_bytes)
            if not waiting:
                return False
            merged = self._merged(waiting, step_minutes)
            outbox.drop(connection, (rollup.seq for rollup in waiting))
            for rollup in merged:
                outbox.put(connection, rollup)
        log.warning("rollups_made_coarser", step_minutes=step_minutes, before=len(waiting), after=len(merged))
        return True

    def _merged(self, finer: Sequence[Waiting], step_minutes: int) -> list[Waiting]:
        rollups = [Rollup.FromString(waiting.body) for waiting in finer]
        entries = coarsened((entry for rollup in rollups for entry in rollup.entries), step_minutes)
        parts = parts_of(entries, self._settings.rollup_bytes) or [[]]
        size_before = sum(len(waiting.body) for waiting in finer)
        if len(parts) > len(finer) or sum(entry.ByteSize() for entry in entries) >= size_before:
            # A sketch of few values far apart is larger than theirs: so little traffic needs no merging yet.
            return [replace(waiting, step_minutes=step_minutes) for waiting in finer]
        newest = max(rollup.cut_at_ms for rollup in rollups)
        capacity = busiest([rollup.capacity for rollup in rollups])
        return [
            Waiting(
                seq=waiting.seq,
                body=self._body(waiting.seq, part, newest, capacity if waiting is finer[0] else None),
                step_minutes=step_minutes,
            )
            for waiting, part in zip(finer, parts, strict=False)
        ]

    def _tell(self) -> None:
        with self._named():
            is_coarse = outbox.has_coarse(self._connection)
        self._alarm(is_coarse)

    @property
    def _connection(self) -> apsw.Connection:
        if self._open is None:
            raise LedgerError(f"{self._path}: the ledger is closed")
        return self._open

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[apsw.Connection]:
        connection = self._connection
        with self._named():
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # a full disk has ended it already
                    connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, OSError) as error:
            raise LedgerError(f"{self._path}: {error}") from error


def _judged(listed: ListedCall, told: Mapping[str, bool]) -> EndedCall:
    is_repeated = listed.call.is_repeated or told.get(listed.call_id, False)
    return replace(listed.call, is_repeated=is_repeated)


def _migrations() -> tuple[Migration, ...]:
    folder = resources.files("edge.rollups") / "migrations"
    names = sorted(entry.name for entry in folder.iterdir() if re.fullmatch(r"\d{4}_\w+\.sql", entry.name))
    return tuple(
        Migration(version=version, name=name.removesuffix(".sql"), sql=(folder / name).read_text(encoding="utf-8"))
        for version, name in enumerate(names, start=1)
    )
