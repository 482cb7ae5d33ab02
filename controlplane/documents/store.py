"""The SQL of documents. Every function runs inside a transaction of the caller."""

from collections.abc import Iterator

import apsw

from controlplane.documents.model import Change, ChangeKind, DocumentKey, Entry, Revision

_COLUMNS = "kind, tenant, name, revision, yaml, applied_at_ms, applied_by, is_deleted"


def load_estate(connection: apsw.Connection) -> tuple[dict[DocumentKey, Entry], dict[DocumentKey, int]]:
    """The documents that hold now, and the newest revision of every key ever stored."""
    entries: dict[DocumentKey, Entry] = {}
    revisions: dict[DocumentKey, int] = {}
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM documents AS d WHERE revision ="  # noqa: S608 - constants
        " (SELECT max(revision) FROM documents WHERE (kind, tenant, name) = (d.kind, d.tenant, d.name))"
    )
    for row in rows:
        stored = _revision(row)
        revisions[stored.key] = stored.revision
        if not stored.is_deleted:
            entries[stored.key] = as_entry(stored)
    return entries, revisions


def as_entry(stored: Revision) -> Entry:
    """A stored revision as it may hold; errors name it as `stored:KEY`."""
    return Entry(key=stored.key, revision=stored.revision, yaml=stored.yaml, file=f"stored:{stored.key}")


def store_change(connection: apsw.Connection, change: Change, *, at_ms: int, by: str) -> None:
    """Append the revision that a change makes."""
    connection.execute(
        f"INSERT INTO documents ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - constants
        (
            change.key.kind,
            change.key.tenant,
            change.key.name,
            change.revision,
            change.yaml,
            at_ms,
            by,
            int(change.kind is ChangeKind.DELETED),
        ),
    )


def history(connection: apsw.Connection, key: DocumentKey) -> list[Revision]:
    """All revisions, newest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM documents WHERE kind = ? AND tenant = ? AND name = ?"  # noqa: S608 - constants
        " ORDER BY revision DESC",
        (key.kind, key.tenant, key.name),
    )
    return [_revision(row) for row in rows]


def current(connection: apsw.Connection, kind: str, tenant: str) -> list[Revision]:
    """The documents that hold, of a kind or all, of a tenant or all."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM documents AS d WHERE NOT is_deleted"  # noqa: S608 - constants
        " AND revision = (SELECT max(revision) FROM documents"
        " WHERE (kind, tenant, name) = (d.kind, d.tenant, d.name))"
        " AND (?1 = '' OR kind = ?1) AND (?2 = '' OR tenant = ?2) ORDER BY kind, tenant, name",
        (kind, tenant),
    )
    return [_revision(row) for row in rows]


def revisions_after(connection: apsw.Connection, row_id: int) -> Iterator[tuple[int, Revision]]:
    """Revisions of all keys stored after a row, with their row ids, oldest first."""
    rows = connection.execute(
        f"SELECT {_COLUMNS}, id FROM documents WHERE id > ? ORDER BY id",  # noqa: S608 - constants
        (row_id,),
    )
    for row in rows:
        yield int(str(row[8])), _revision(row)


def _revision(row: tuple[object, ...]) -> Revision:
    return Revision(
        key=DocumentKey(kind=str(row[0]), tenant=str(row[1]), name=str(row[2])),
        revision=int(str(row[3])),
        yaml=str(row[4]),
        applied_at_ms=int(str(row[5])),
        applied_by=str(row[6]),
        is_deleted=bool(row[7]),
    )
