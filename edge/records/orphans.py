"""The calls that a dead worker left open: found, so that a sibling can go on with them, or ended, so that every call
is counted and none stays "in progress" for ever."""

import contextlib
from pathlib import Path

import apsw
import structlog

from edge.records import rows
from edge.records.database import DatabaseSettings, Immediate, database_path, open_reader, tenants_in
from edge.records.errors import from_sqlite
from edge.records.model import CutOffCall, Orphan
from edge.records.presence import RunId, is_alive, was_lost_with_its_node
from edge.records.tenant import TenantRecords

log = structlog.get_logger(__name__)

WORKER_DIED = "worker_died"
# The machine stopped, or these are the records of another one, restored.
NODE_LOST = "node_lost"
ACTOR = "orphans"
CUT_OFF_LIMIT = 500


def close_orphans(directory: Path, tenant: str, settings: DatabaseSettings) -> int:
    """End as failed every call whose worker is dead, at the last moment that is known of it; returns how many.

    Raises RecordsError or OSError.
    """
    path = database_path(directory, tenant)
    try:
        records = TenantRecords.open(directory, tenant, settings, actor=ACTOR, run=RunId(ACTOR))
        with contextlib.closing(records):
            if not _dead_runs(directory, records.connection):
                return 0
            with Immediate(records.connection):
                dead = _dead_runs(directory, records.connection)
                return sum(records.writer.close_calls_of([run], reason=reason_of(run)) for run in dead)
    except apsw.Error as error:
        raise from_sqlite(error, path) from error


def reason_of(run: str | None) -> str:
    """Why the calls of a dead run ended."""
    return NODE_LOST if was_lost_with_its_node(run) else WORKER_DIED


def find_cut_off_calls(directory: Path, settings: DatabaseSettings, *, since_ms: int) -> tuple[CutOffCall, ...]:
    """The calls of all tenants that failed since then, and that nobody is known to have resumed."""
    found: list[CutOffCall] = []
    for tenant in tenants_in(directory):
        try:
            with contextlib.closing(open_reader(database_path(directory, tenant), settings)) as connection:
                found += rows.read_cut_off_calls(connection, tenant, since_ms, CUT_OFF_LIMIT)
        except apsw.Error as error:
            log.error("cut_off_calls_unreadable", tenant=tenant, detail=str(error))  # noqa: TRY400
    return tuple(found)


def find_open_calls(directory: Path, settings: DatabaseSettings) -> tuple[Orphan, ...]:
    """The open calls of all tenants, whoever has them; a database that cannot be read has none."""
    found: list[Orphan] = []
    for tenant in tenants_in(directory):
        try:
            with contextlib.closing(open_reader(database_path(directory, tenant), settings)) as connection:
                found += rows.read_open_calls(connection, tenant)
        except apsw.Error as error:
            log.error("open_calls_unreadable", tenant=tenant, detail=str(error))  # noqa: TRY400
    return tuple(found)


def _dead_runs(directory: Path, connection: apsw.Connection) -> list[str | None]:
    return [run for run in rows.read_open_runs(connection) if run is None or not is_alive(directory, run)]
