"""The SQL of knowledge at the hub. Every function runs inside a transaction of the caller."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import apsw

from contract.knowledge_vectors import Vector

ItemKey = tuple[str, str]  # source, id
KEPT_MESSAGES = 20  # of each region and tenant
# A message without content takes the tenant's knowledge away from the region; whatever else is sent has some.
REMOVED_BYTES = 0
_ASKED_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """What an item says: a serialised KnowledgeItem without texts, by its digest."""

    digest: bytes
    valid_from: str
    valid_until: str
    packed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemChange:
    """How an item differs between the published version and the draft; None where it is not in one."""

    source: str
    item_id: str
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnowledgeVersion:
    """A published version."""

    version: int
    created_at_ms: int
    items: int
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Items of the published version by their dates."""

    valid: int
    expired: int
    future: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """A version for one region. `object_name`: the snapshot that has to be in its object store first."""

    region: str
    tenant: str
    version: int
    object_name: str | None
    content_bytes: int
    message: bytes

    @property
    def is_removal(self) -> bool:
        """Whether it takes the tenant's knowledge away; `object_name` is then a snapshot that goes, too."""
        return self.content_bytes == REMOVED_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a region was sent of a tenant: its newest version, its newest snapshot, and the size of all deltas since."""

    version: int = 0
    snapshot: int = 0
    delta_bytes: int = 0


# --- drafts -------------------------------------------------------------------------------------------------------
def put_bodies(connection: apsw.Connection, bodies: Iterable[Body]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO knowledge_bodies (digest, valid_from, valid_until, body) VALUES (?, ?, ?, ?)",
        ((body.digest, body.valid_from, body.valid_until, body.packed) for body in bodies),
    )


def replace_draft_source(
    connection: apsw.Connection, tenant: str, source: str, items: Mapping[str, bytes], *, is_patch: bool
) -> None:
    """Make a source of the draft hold these items (id to digest); a patch leaves the others."""
    before = dict(_digests(connection, "knowledge_draft", tenant, source))
    gone = [] if is_patch else [(tenant, source, item_id) for item_id in before.keys() - items.keys()]
    connection.executemany("DELETE FROM knowledge_draft WHERE tenant = ? AND source = ? AND id = ?", gone)
    connection.executemany(
        "INSERT OR REPLACE INTO knowledge_draft VALUES (?, ?, ?, ?)",
        [(tenant, source, item_id, digest) for item_id, digest in items.items() if before.get(item_id) != digest],
    )


def remove_from_draft(connection: apsw.Connection, tenant: str, source: str, item_ids: Iterable[str]) -> list[str]:
    """Take items out of the draft; returns those that were not in it."""
    missing = []
    for item_id in item_ids:
        connection.execute(
            "DELETE FROM knowledge_draft WHERE tenant = ? AND source = ? AND id = ?", (tenant, source, item_id)
        )
        if not connection.changes():
            missing.append(item_id)
    return missing


def draft_from_version(connection: apsw.Connection, tenant: str, version: int) -> None:
    """Make the draft what a version held."""
    connection.execute("DELETE FROM knowledge_draft WHERE tenant = ?", (tenant,))
    connection.execute(
        "INSERT INTO knowledge_draft SELECT tenant, source, id, digest FROM knowledge_history AS h"
        " WHERE tenant = ? AND digest IS NOT NULL AND version = (SELECT max(version) FROM knowledge_history"
        " WHERE tenant = h.tenant AND source = h.source AND id = h.id AND version <= ?)",
        (tenant, version),
    )


def changes(connection: apsw.Connection, tenant: str) -> list[ItemChange]:
    """What publishing the draft would change, by source and id."""
    rows = connection.execute(
        "SELECT d.source, d.id, p.digest, d.digest FROM knowledge_draft AS d LEFT JOIN knowledge_published AS p"
        " ON (p.tenant, p.source, p.id) = (d.tenant, d.source, d.id)"
        " WHERE d.tenant = ?1 AND p.digest IS NOT d.digest UNION ALL"
        " SELECT p.source, p.id, p.digest, NULL FROM knowledge_published AS p WHERE p.tenant = ?1 AND NOT EXISTS"
        " (SELECT 1 FROM knowledge_draft AS d WHERE (d.tenant, d.source, d.id) = (p.tenant, p.source, p.id))"
        " ORDER BY 1, 2",
        (tenant,),
    )
    return [ItemChange(source=row[0], item_id=row[1], before=row[2], after=row[3]) for row in rows]


def draft_size(connection: apsw.Connection, tenant: str) -> int:
    return int(str(connection.execute("SELECT count(*) FROM knowledge_draft WHERE tenant = ?", (tenant,)).get))


def published_size(connection: apsw.Connection, tenant: str) -> int:
    return int(str(connection.execute("SELECT count(*) FROM knowledge_published WHERE tenant = ?", (tenant,)).get))


def draft_part(connection: apsw.Connection, tenant: str, after: ItemKey, limit: int) -> list[tuple[ItemKey, bytes]]:
    """Return the next items of the draft in order, with their bodies."""
    return _part(connection, "knowledge_draft", tenant, after, limit)


def published_part(connection: apsw.Connection, tenant: str, after: ItemKey, limit: int) -> list[tuple[ItemKey, bytes]]:
    """Return the next items of the newest version in order, with their bodies."""
    return _part(connection, "knowledge_published", tenant, after, limit)


def draft_model(connection: apsw.Connection, tenant: str) -> str:
    """Return the model of the draft's vectors, empty if there is no draft yet."""
    found = connection.execute("SELECT model FROM knowledge_draft_models WHERE tenant = ?", (tenant,)).get
    return str(found) if found is not None else ""


def put_draft_model(connection: apsw.Connection, tenant: str, model: str) -> None:
    connection.execute("INSERT OR REPLACE INTO knowledge_draft_models VALUES (?, ?)", (tenant, model))


def bodies(connection: apsw.Connection, digests: Iterable[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for digest in digests:
        body = connection.execute("SELECT body FROM knowledge_bodies WHERE digest = ?", (digest,)).get
        assert isinstance(body, bytes)
        found[digest] = body
    return found


# --- vectors ------------------------------------------------------------------------------------------------------
def vectors(connection: apsw.Connection, model: str, texts: Sequence[bytes]) -> dict[bytes, Vector]:
    """Return the vectors that are known, by the digest of their texts."""
    found: dict[bytes, Vector] = {}
    for start in range(0, len(texts), _ASKED_AT_ONCE):
        part = texts[start : start + _ASKED_AT_ONCE]
        rows = connection.execute(
            "SELECT text_sha256, vector, scale FROM knowledge_vectors"  # noqa: S608 - question marks
            f" WHERE model = ? AND text_sha256 IN ({','.join('?' * len(part))})",
            (model, *part),
        )
        found |= {bytes(row[0]): Vector(components=bytes(row[1]), scale=float(row[2])) for row in rows}
    return found


def without_vectors(connection: apsw.Connection, model: str, texts: Iterable[bytes]) -> list[bytes]:
    """Return those of the digests of texts that have no vector yet."""
    query = "SELECT 1 FROM knowledge_vectors WHERE text_sha256 = ? AND model = ?"
    return [digest for digest in texts if connection.execute(query, (digest, model)).get is None]


def put_vectors(connection: apsw.Connection, model: str, made: Mapping[bytes, Vector]) -> None:
    connection.executemany(
        "INSERT OR IGNORE INTO knowledge_vectors VALUES (?, ?, ?, ?)",
        ((digest, model, vector.scale, vector.components) for digest, vector in made.items()),
    )


# --- versions -----------------------------------------------------------------------------------------------------
def tenants(connection: apsw.Connection) -> list[str]:
    """Return the tenants that have knowledge, published or not."""
    rows = connection.execute(
        "SELECT tenant FROM knowledge_draft UNION SELECT tenant FROM knowledge_versions ORDER BY 1"
    )
    return [str(tenant) for (tenant,) in rows]


def newest_version(connection: apsw.Connection, tenant: str) -> KnowledgeVersion | None:
    row = connection.execute(
        "SELECT version, created_at_ms, items, model FROM knowledge_versions WHERE tenant = ?"
        " ORDER BY version DESC LIMIT 1",
        (tenant,),
    ).fetchone()
    if row is None:
        return None
    return KnowledgeVersion(version=int(row[0]), created_at_ms=int(row[1]), items=int(row[2]), model=str(row[3]))


def newest_versions(connection: apsw.Connection) -> dict[str, int]:
    """Return the newest published version of every tenant."""
    rows = connection.execute("SELECT tenant, max(version) FROM knowledge_versions GROUP BY tenant")
    return {str(tenant): int(version) for tenant, version in rows}


def has_version(connection: apsw.Connection, tenant: str, version: int) -> bool:
    query = "SELECT 1 FROM knowledge_versions WHERE tenant = ? AND version = ?"
    return connection.execute(query, (tenant, version)).get is not None


def counts(connection: apsw.Connection, tenant: str, today: str) -> Counts:
    """Count the published items by their dates; `today` as in ISO 8601."""
    row = connection.execute(
        "SELECT coalesce(sum(b.valid_until != '' AND b.valid_until < ?1), 0),"
        " coalesce(sum(b.valid_from > ?1), 0), count(*)"
        " FROM knowledge_published AS p JOIN knowledge_bodies AS b ON b.digest = p.digest WHERE p.tenant = ?2",
        (today, tenant),
    ).fetchone()
    assert row is not None
    expired, future, total = (int(value) for value in row)
    return Counts(valid=total - expired - future, expired=expired, future=future)


def store_version(
    connection: apsw.Connection, tenant: str, version: KnowledgeVersion, changed: Iterable[ItemChange]
) -> None:
    """Make the draft the published version."""
    connection.execute(
        "INSERT INTO knowledge_versions VALUES (?, ?, ?, ?, ?)",
        (tenant, version.version, version.created_at_ms, version.items, version.model),
    )
    for change in changed:
        key = (tenant, change.source, change.item_id)
        connection.execute(
            "INSERT INTO knowledge_history VALUES (?, ?, ?, ?, ?)", (*key, version.version, change.after)
        )
        if change.after is None:
            connection.execute("DELETE FROM knowledge_published WHERE (tenant, source, id) = (?, ?, ?)", key)
        else:
            connection.execute("INSERT OR REPLACE INTO knowledge_published VALUES (?, ?, ?, ?)", (*key, change.after))


# --- outbox -------------------------------------------------------------------------------------------------------
def put_message(connection: apsw.Connection, outgoing: OutgoingMessage) -> None:
    connection.execute(
        "INSERT INTO knowledge_messages VALUES (?, ?, ?, ?, ?, ?, NULL)",
        (
            outgoing.region,
            outgoing.tenant,
            outgoing.version,
            outgoing.object_name,
            outgoing.content_bytes,
            outgoing.message,
        ),
    )
    connection.execute(
        "UPDATE knowledge_messages SET message = NULL WHERE (region, tenant) = (?, ?) AND version <= ?"
        " AND published_at_ms IS NOT NULL AND message IS NOT NULL",
        (outgoing.region, outgoing.tenant, outgoing.version - KEPT_MESSAGES),
    )


def drop_waiting(connection: apsw.Connection, tenant: str) -> None:
    """Forget what NATS does not have yet: something that replaces all of it is stored in the same transaction."""
    connection.execute("DELETE FROM knowledge_messages WHERE tenant = ? AND published_at_ms IS NULL", (tenant,))


def waiting(connection: apsw.Connection) -> list[OutgoingMessage]:
    """What NATS does not have yet, in the order of versions."""
    rows = connection.execute(
        "SELECT region, tenant, version, object, content_bytes, message FROM knowledge_messages"
        " WHERE published_at_ms IS NULL ORDER BY region, tenant, version"
    )
    return [
        OutgoingMessage(
            region=region,
            tenant=tenant,
            version=version,
            object_name=object_name,
            content_bytes=content_bytes,
            message=message,
        )
        for region, tenant, version, object_name, content_bytes, message in rows
    ]


def mark_published(connection: apsw.Connection, outgoing: OutgoingMessage) -> None:
    """NATS has stored it."""
    connection.execute(
        "UPDATE knowledge_messages SET published_at_ms = ? WHERE (region, tenant, version) = (?, ?, ?)",
        (time.time_ns() // 1_000_000, outgoing.region, outgoing.tenant, outgoing.version),
    )


def sent(connection: apsw.Connection, tenant: str) -> dict[str, Sent]:
    """Return what each region was sent of the tenant's knowledge, without those from which it was taken away."""
    rows = connection.execute(
        "SELECT m.region, max(m.version), s.version,"
        " coalesce(sum(CASE WHEN m.version > s.version THEN m.content_bytes END), 0)"
        " FROM knowledge_messages AS m JOIN (SELECT region, max(CASE WHEN object IS NOT NULL THEN version ELSE 0 END)"
        " AS version FROM knowledge_messages WHERE tenant = ?1 GROUP BY region) AS s ON s.region = m.region"
        " WHERE m.tenant = ?1 GROUP BY m.region",
        (tenant,),
    )
    removed = {region for region, of, is_removal in held(connection) if of == tenant and is_removal}
    return {
        str(region): Sent(version=int(version), snapshot=int(snapshot), delta_bytes=int(delta_bytes))
        for region, version, snapshot, delta_bytes in rows
        if region not in removed
    }


def held(connection: apsw.Connection) -> list[tuple[str, str, bool]]:
    """Return every region and tenant of which something was sent, and whether the newest took it away."""
    rows = connection.execute(
        "SELECT region, tenant, content_bytes, max(version) FROM knowledge_messages GROUP BY region, tenant"
    )
    return [(str(region), str(tenant), content_bytes == REMOVED_BYTES) for region, tenant, content_bytes, _ in rows]


def put_removal(connection: apsw.Connection, removal: OutgoingMessage) -> None:
    """In place of the newest message of the region, which it has the version of; what waits is not sent any more."""
    key = (removal.region, removal.tenant)
    connection.execute(
        "DELETE FROM knowledge_messages WHERE (region, tenant) = (?, ?) AND published_at_ms IS NULL AND version < ?",
        (*key, removal.version),
    )
    connection.execute(
        "UPDATE knowledge_messages SET message = ?, content_bytes = ?, published_at_ms = NULL"
        " WHERE (region, tenant, version) = (?, ?, ?)",
        (removal.message, REMOVED_BYTES, *key, removal.version),
    )


def forget_before_removal(connection: apsw.Connection, removal: OutgoingMessage) -> None:
    """The region has nothing any more of what it was sent before."""
    key = (removal.region, removal.tenant, removal.version)
    connection.execute("DELETE FROM knowledge_messages WHERE (region, tenant) = (?, ?) AND version < ?", key)
    connection.execute("UPDATE knowledge_messages SET object = NULL WHERE (region, tenant, version) = (?, ?, ?)", key)


def version_sent(connection: apsw.Connection, region: str, tenant: str) -> KnowledgeVersion:
    """Return the newest version that a region was sent, as it was published. Raises KeyError."""
    row = connection.execute(
        "SELECT v.version, v.created_at_ms, v.items, v.model FROM knowledge_messages AS m"
        " JOIN knowledge_versions AS v ON (v.tenant, v.version) = (m.tenant, m.version)"
        " WHERE (m.region, m.tenant) = (?, ?) ORDER BY m.version DESC LIMIT 1",
        (region, tenant),
    ).fetchone()
    if row is None:
        raise KeyError(tenant)
    return KnowledgeVersion(version=int(row[0]), created_at_ms=int(row[1]), items=0, model=str(row[3]))


def newest_messages(connection: apsw.Connection) -> dict[tuple[str, str], int]:
    """Return the newest version by region and tenant."""
    rows = connection.execute("SELECT region, tenant, max(version) FROM knowledge_messages GROUP BY region, tenant")
    return {(str(region), str(tenant)): int(version) for region, tenant, version in rows}


def objects(connection: apsw.Connection, region: str, tenant: str) -> list[str]:
    """Return the names of the snapshots that a region was sent, newest first."""
    rows = connection.execute(
        "SELECT object FROM knowledge_messages WHERE (region, tenant) = (?, ?) AND object IS NOT NULL"
        " ORDER BY version DESC",
        (region, tenant),
    )
    return list(dict.fromkeys(str(name) for (name,) in rows))


def _part(
    connection: apsw.Connection, table: str, tenant: str, after: ItemKey, limit: int
) -> list[tuple[ItemKey, bytes]]:
    rows = connection.execute(
        f"SELECT i.source, i.id, b.body FROM {table} AS i JOIN knowledge_bodies AS b ON b.digest = i.digest"  # noqa: S608
        " WHERE i.tenant = ? AND (i.source, i.id) > (?, ?) ORDER BY i.source, i.id LIMIT ?",
        (tenant, *after, limit),
    )
    return [((str(source), str(item_id)), bytes(body)) for source, item_id, body in rows]


def _digests(connection: apsw.Connection, table: str, tenant: str, source: str) -> Iterator[tuple[str, bytes]]:
    query = f"SELECT id, digest FROM {table} WHERE tenant = ? AND source = ?"  # noqa: S608 - one of our tables
    for item_id, digest in connection.execute(query, (tenant, source)):
        yield str(item_id), bytes(digest)
