"""Brings back a tenant's databases from the region: for an operator, and for a sibling that takes a lost node's place.

Both databases are restored, checked (SQLite's integrity check, then the audit chain), and the restore is entered in the
chain: what the last second before the loss had not brought into the replica is missing from then on by name, not by
surprise. Content stays sealed on a node that has not been given the lost node's master key.
"""

import asyncio
import contextlib
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from contract.litestream_config import RECORDS_PACE, NatsAccess, render
from edge.records.audit import AuditAction
from edge.records.database import DatabaseSettings, Immediate, master_key_path, open_reader
from edge.records.errors import from_sqlite
from edge.records.presence import RunId
from edge.records.tenant import TenantRecords
from edge.records.verification import AuditReport, verify
from edge.replication.databases import NodeDatabase, keys_of, ledger_of, records_of
from edge.replication.errors import ReplicaMissingError, RestoreFailedError, RestoreTargetError
from edge.replication.litestream import find_litestream
from edge.shared_folder import protect

RESTORE_WITHIN_S = 600.0
NO_REPLICA = "no matching backup files"
NO_BUCKET = "bucket must be created"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOrder:
    """What to restore, and where to. `database` says where the keys and the master key of the target lie."""

    tenant: str
    from_node: str
    target: Path
    nats: NatsAccess
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    program: Path | None = None
    actor: str = "restore"


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """What came back. `lost_entries`: entries of the audit chain that are known to have been, and are not here.

    `unreadable_contents`: turns whose key did not come back. `is_entered` is False where no master key is at hand to
    sign the chain's new end with.
    """

    tenant: str
    from_node: str
    took_s: float
    audit: AuditReport
    lost_entries: int
    unreadable_contents: int
    is_entered: bool


async def restore(order: RestoreOrder) -> RestoreReport:
    """Restore one tenant. Raises ReplicationError or RecordsError; nothing is left in the target then."""
    began = time.monotonic()
    program = find_litestream(order.program)
    records = records_of(order.target, order.from_node, order.tenant)
    keys = keys_of(order.target, order.from_node, order.tenant, order.database)
    for database in (records, keys):
        if database.path.exists():
            raise RestoreTargetError(f"{database.path} exists")
    try:
        for database in (keys, records):
            await _fetch(program, database, order.nats)
        return await asyncio.to_thread(_finish, order, records, began)
    except BaseException:
        for database in (records, keys):
            _remove(database.path)
        raise


async def restore_ledger(from_node: str, target: Path, nats: NatsAccess, *, program: Path | None = None) -> None:
    """Restore a node's ledger of rollups, so that what was counted is not counted again. Raises ReplicationError."""
    database = ledger_of(target, from_node)
    if database.path.exists():
        raise RestoreTargetError(f"{target} exists")
    try:
        await _fetch(find_litestream(program), database, nats)
    except BaseException:
        _remove(target)
        raise


async def _fetch(program: Path, database: NodeDatabase, nats: NatsAccess) -> None:
    database.path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "litestream.yml"
        config.write_text(render((database.replicated(),), nats, RECORDS_PACE, metrics_port=None), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            program, "restore", "-config", config, "-integrity-check", "full", "-o", database.path, database.path,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        try:
            async with asyncio.timeout(RESTORE_WITHIN_S):
                output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    if process.returncode != 0:
        text = output.decode(errors="replace").strip()
        kind = ReplicaMissingError if NO_REPLICA in text or NO_BUCKET in text else RestoreFailedError
        raise kind(f"{database.bucket}: {text[-500:]}")
    protect(database.path)


def _finish(order: RestoreOrder, records: NodeDatabase, began: float) -> RestoreReport:
    found = verify(order.target, order.tenant, order.database)
    lost = max(0, (found.anchored_seq or 0) - found.entries)
    unreadable = _unreadable(order, records.path)
    # Without a master key nothing is entered: making one here would sign for a node that does not know it.
    is_entered = master_key_path(order.target, order.database).exists()
    if is_entered:
        _enter(order, lost)
    return RestoreReport(
        tenant=order.tenant,
        from_node=order.from_node,
        took_s=time.monotonic() - began,
        audit=verify(order.target, order.tenant, order.database),
        lost_entries=lost,
        unreadable_contents=unreadable,
        is_entered=is_entered,
    )


def _enter(order: RestoreOrder, lost: int) -> None:
    """Tell the chain that it was restored, and note its new end."""
    with contextlib.closing(
        TenantRecords.open(order.target, order.tenant, order.database, actor=order.actor, run=RunId("restore"))
    ) as opened:
        with Immediate(opened.connection):
            opened.trail.append(AuditAction.RESTORED, order.tenant, from_node=order.from_node, lost_entries=lost)
        opened.keyring.write_anchor(*opened.trail.head())


def _unreadable(order: RestoreOrder, path: Path) -> int:
    """Turns that are sealed with keys which are not in the key database."""
    keys = keys_of(order.target, order.from_node, order.tenant, order.database).path
    try:
        with contextlib.closing(open_reader(path, order.database)) as connection:
            connection.execute("ATTACH ? AS keys", (str(keys),))
            count = connection.execute(
                "SELECT count(*) FROM turn_contents WHERE key_id NOT IN (SELECT key_id FROM keys.subject_keys)"
            ).get
            return int(str(count))
    except apsw.Error as error:
        raise from_sqlite(error, path) from error


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm", ".tmp", ".tmp-wal", ".tmp-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    shutil.rmtree(path.with_name(f".{path.name}-litestream"), ignore_errors=True)
