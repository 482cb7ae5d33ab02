"""Ends the calls that a dead worker left open, so that every call is counted and none stays "in progress" for ever."""

import contextlib
from pathlib import Path

import apsw

from edge.records import rows
from edge.records.database import DatabaseSettings, database_path, open_writer, tenants_in
from edge.records.errors import from_sqlite
from edge.records.presence import is_alive

WORKER_DIED = "worker_died"


def close_orphans(directory: Path, settings: DatabaseSettings) -> int:
    """End as failed every call whose worker is dead, at the last moment that is known of it; returns how many.

    Raises RecordsError; what was closed before stays closed.
    """
    return sum(_close_in(directory, tenant, settings) for tenant in tenants_in(directory))


def _close_in(directory: Path, tenant: str, settings: DatabaseSettings) -> int:
    path = database_path(directory, tenant)
    try:
        with contextlib.closing(open_writer(path, settings)) as connection:
            dead = [run for run in rows.read_open_runs(connection) if run is None or not is_alive(directory, run)]
            if not dead:
                return 0
            connection.execute("BEGIN IMMEDIATE")
            closed = rows.close_calls_of(connection, dead, reason=WORKER_DIED)
            connection.execute("COMMIT")
            return closed
    except apsw.Error as error:
        raise from_sqlite(error, path) from error
