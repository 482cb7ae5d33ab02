"""One tenant's databases, opened together for writing: records, keys, audit chain."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import apsw
import structlog

from edge.records.audit import AuditAction, AuditTrail
from edge.records.contents import open_records
from edge.records.database import DatabaseSettings, Immediate, database_path
from edge.records.keyring import Destroyed, Keyring, open_keyring
from edge.records.presence import RunId
from edge.records.subjects import SubjectId
from edge.records.writing import Writer

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantRecords:
    """Records of one tenant; belongs to one thread."""

    writer: Writer
    keyring: Keyring
    trail: AuditTrail

    @classmethod
    def open(cls, directory: Path, tenant: str, settings: DatabaseSettings, *, actor: str, run: RunId) -> Self:
        """Open both databases and bring their schema up to date. Raises apsw.Error, OSError or RecordsError."""
        path = database_path(directory, tenant)
        keyring = open_keyring(directory, tenant, settings)
        try:
            connection = open_records(path, tenant, settings, keyring)
        except BaseException:
            keyring.close()
            raise
        trail = AuditTrail(connection=connection, tenant=tenant, actor=actor)
        writer = Writer(connection=connection, tenant=tenant, run=run, keyring=keyring, trail=trail)
        opened = cls(writer=writer, keyring=keyring, trail=trail)
        try:
            opened.begin_chain()
        except BaseException:
            opened.close()
            raise
        return opened

    @property
    def connection(self) -> apsw.Connection:
        return self.trail.connection

    def begin_chain(self) -> None:
        """Note that the chain is empty, before its first entry: a note that is missing later was taken away."""
        if self.trail.head()[0] == 0:
            self.anchor()

    def anchor(self) -> bool:
        """Note in the key database how far the audit chain reaches.

        False, and logged, if the chain was cut or the older note is not one of ours: that note stays as evidence.
        """
        seq, digest = self.trail.head()
        is_whole = self.keyring.anchor(seq, digest, self.trail.has)
        if not is_whole:
            log.error("audit_chain_cut", tenant=self.trail.tenant)
        return is_whole

    def destroy_key(self, subject: SubjectId) -> Destroyed:
        """Make all content of a data subject unreadable.

        The intent is entered first, so that a crash in between leaves a trace of what was begun.
        """
        with Immediate(self.connection):
            self.trail.append(AuditAction.KEY_DESTROYING, subject)
        destroyed = self.keyring.destroy(subject)
        with Immediate(self.connection):
            for key_id in destroyed.key_ids:
                self.trail.append(AuditAction.KEY_DESTROYED, key_id)
        return destroyed

    def tell_read(self, call_id: str) -> None:
        """Enter that a person read the records of a call; before they are shown."""
        with Immediate(self.connection):
            self.trail.append(AuditAction.RECORDS_READ, call_id)

    def close(self) -> None:
        """Close both; an open transaction rolls back."""
        self.connection.close(True)  # noqa: FBT003 - apsw's `force` is positional
        self.keyring.close()
