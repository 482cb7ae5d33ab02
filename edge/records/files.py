"""The databases that one run of a worker writes, one pair a tenant, opened when first needed. Belongs to one thread."""

import errno
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import apsw
import structlog

from edge.records.audit import ANCHOR_EVERY_S
from edge.records.database import DatabaseSettings, Immediate, database_path, tenants_in
from edge.records.errors import CallTakenOverError, RecordsError, RowRejectedError, from_sqlite
from edge.records.model import Adopted, Adoption, Record, StateRecord, TurnRecord
from edge.records.orphans import close_orphans
from edge.records.presence import Presence, RunId, forget_dead, sole_sweeper
from edge.records.tenant import TenantRecords

log = structlog.get_logger(__name__)

Request = Record | Adoption
Result = RecordsError | Adopted | None


class TenantFiles:
    """Writes groups of records. `prepare` first, `close` last."""

    def __init__(self, directory: Path, settings: DatabaseSettings) -> None:
        self._directory = directory
        self._settings = settings
        self._presence = Presence(directory)
        self._is_present = False
        self._open: dict[str, TenantRecords] = {}
        self._anchored: dict[str, float] = {}

    @property
    def run(self) -> RunId:
        """Who this run of a worker is."""
        return self._presence.run

    def prepare(self, *, closes_orphans: bool) -> None:
        """Be present, and close what dead workers left open unless somebody else will; a tenant whose records cannot
        be opened is told when it is written."""
        try:
            self._be_present()
            if closes_orphans:
                with sole_sweeper(self._directory):
                    close_all_orphans(self._directory, self._settings)
        except OSError as error:
            log.error("records_directory_unusable", detail=str(error))  # noqa: TRY400 - each save tells it again

    def write(self, tenant: str, records: Sequence[Request]) -> list[Result]:
        """Write records as one transaction; one result each: None where it is on disk, or what was adopted."""
        try:
            path = database_path(self._directory, tenant)
            try:
                return self._write(tenant, path, records)
            except (apsw.Error, OSError) as error:
                raise _as_records_error(error, path) from error
        except RecordsError as error:
            self._forget(tenant)
            return [error] * len(records)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next group must find a writer
            log.error("records_writer_broke", tenant=tenant, kind=type(error).__name__, where=_place(error))  # noqa: TRY400
            self._forget(tenant)
            failed = RecordsError(f"{tenant}: {type(error).__name__} at {_place(error)}")
            failed.__cause__ = error
            return [failed] * len(records)

    def close(self) -> None:
        """Note the ends of the audit chains, close all files, and be gone."""
        for tenant in list(self._open):
            try:
                self._open[tenant].anchor()
            except apsw.Error as error:
                log.error("audit_not_anchored", tenant=tenant, detail=str(error))  # noqa: TRY400
            self._forget(tenant)
        if self._is_present:
            self._presence.__exit__(None, None, None)

    def _write(self, tenant: str, path: Path, records: Sequence[Request]) -> list[Result]:
        self._be_present()
        if tenant not in self._open:
            actor = f"worker:{self._presence.run}"
            self._open[tenant] = TenantRecords.open(
                self._directory, tenant, self._settings, actor=actor, run=self._presence.run
            )
        opened = self._open[tenant]
        # Keys first: what they seal must never be on disk without them.
        opened.keyring.refresh()
        opened.keyring.living({record.subject_id for record in records if isinstance(record, TurnRecord | StateRecord)})
        with Immediate(opened.connection):
            results = [_write_one(opened, record, path) for record in records]
        self._anchor(tenant, opened)
        return results

    def _anchor(self, tenant: str, opened: TenantRecords) -> None:
        now = time.monotonic()
        if now - self._anchored.get(tenant, 0.0) >= ANCHOR_EVERY_S:
            self._anchored[tenant] = now
            try:
                opened.anchor()
            except apsw.Error as error:  # the records are on disk; the next group tries again
                log.error("audit_not_anchored", tenant=tenant, detail=str(error))  # noqa: TRY400

    def _forget(self, tenant: str) -> None:
        opened = self._open.pop(tenant, None)
        if opened is not None:
            opened.close()

    def _be_present(self) -> None:
        if not self._is_present:
            self._presence.__enter__()
            self._is_present = True


def close_all_orphans(directory: Path, settings: DatabaseSettings) -> int:
    """End what dead workers left open, of every tenant whose records can be opened; returns how many calls. The caller
    is the sole sweeper."""
    count = 0
    for tenant in tenants_in(directory):
        try:
            if closed := close_orphans(directory, tenant, settings):
                log.warning("orphans_closed", tenant=tenant, calls=closed)
                count += closed
        except (RecordsError, OSError) as error:
            log.error("orphans_not_closed", tenant=tenant, detail=str(error))  # noqa: TRY400
        except Exception as error:  # noqa: BLE001 - one tenant's past must not end everybody's recording
            log.error("orphans_not_closed", tenant=tenant, detail=f"{type(error).__name__} at {_place(error)}")  # noqa: TRY400
    forget_dead(directory)
    return count


def _write_one(opened: TenantRecords, record: Request, path: Path) -> Result:
    # Not apsw's `with connection`: a full disk ends the whole transaction, and it then reports the lost savepoint.
    connection = opened.connection
    connection.execute("SAVEPOINT record")
    adopted: Adopted | None = None
    try:
        if isinstance(record, Adoption):
            adopted = opened.writer.adopt(record)
        else:
            opened.writer.write(record)
        connection.execute("RELEASE record")
    except CallTakenOverError as error:
        connection.execute("ROLLBACK TO record; RELEASE record")
        return error
    except (apsw.ConstraintError, apsw.MismatchError, ValueError, TypeError) as error:
        connection.execute("ROLLBACK TO record; RELEASE record")
        rejected = from_sqlite(error, path) if isinstance(error, apsw.Error) else _no_row(error, path)
        rejected.__cause__ = error
        return rejected
    return adopted


def _no_row(error: Exception, path: Path) -> RecordsError:
    # Its kind only: the message of a UnicodeEncodeError may quote what was said.
    return RowRejectedError(f"{path}: {type(error).__name__}")


def _place(error: Exception) -> str:
    """File and line that raised it, without what it was about."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""


def _as_records_error(error: apsw.Error | OSError, path: Path) -> RecordsError:
    if isinstance(error, apsw.Error):
        return from_sqlite(error, path)
    is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return from_sqlite((apsw.FullError if is_full else apsw.ReadOnlyError)(str(error)), path)
