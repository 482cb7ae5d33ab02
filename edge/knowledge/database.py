"""Knowledge as a SQLite database: items, their vectors, and everything that search needs, derived from them.

One form for all knowledge: a tenant's replica on disk, written by the node's sync agent and read by every call worker,
and the database in memory that is built from the files beside an agent's documents. `Writer` keeps what is derived
(stems in FTS5, vocabulary, spellings of names) in step with the items inside the caller's transaction. `changes` tells
readers which items to look at again. Knows no manifests and no ranking.
"""

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import apsw

from contract.downlink_pb2 import ItemText, KnowledgeItem
from contract.knowledge_items import Item, from_message
from contract.knowledge_vectors import Vector
from edge.knowledge.words import content_stems, spelt_together, words

# Grows when what is derived changes, so that an upgraded node derives it anew.
INDEX_FORMAT = 1
# Days that stand for "no limit".
FIRST_DAY, LAST_DAY = 0, 4_000_000
SCHEMA = """
CREATE TABLE knowledge (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    index_format INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL,
    items INTEGER NOT NULL,
    manifest_sha256 BLOB NOT NULL,
    embedding TEXT NOT NULL
) STRICT;
-- body: a KnowledgeItem without texts; days are proleptic ordinals.
CREATE TABLE items (
    row INTEGER PRIMARY KEY AUTOINCREMENT,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    has_questions INTEGER NOT NULL,
    valid_from INTEGER NOT NULL,
    valid_until INTEGER NOT NULL,
    body BLOB NOT NULL,
    crc INTEGER NOT NULL,
    UNIQUE (source, id)
) STRICT;
CREATE INDEX items_by_id ON items (id);
CREATE TABLE texts (
    row INTEGER PRIMARY KEY,
    item INTEGER NOT NULL,
    text TEXT NOT NULL,
    stems TEXT NOT NULL,
    scale REAL NOT NULL,
    vector BLOB NOT NULL,
    crc INTEGER NOT NULL
) STRICT;
CREATE INDEX texts_by_item ON texts (item);
-- What decides whether an agent searches a text: its source, and whether questions are written.
CREATE TABLE scopes (
    row INTEGER PRIMARY KEY,
    source TEXT NOT NULL,
    has_questions INTEGER NOT NULL,
    UNIQUE (source, has_questions)
) STRICT;
-- Tokens are "<scope>_<stem>": a search in few texts does not wade through many others.
CREATE VIRTUAL TABLE search USING
    fts5(stems, content='', contentless_delete=1, detail=none, tokenize="ascii tokenchars ':._'");
-- In how many texts of a scope a stem stands.
CREATE TABLE vocabulary (
    row INTEGER PRIMARY KEY,
    stem TEXT NOT NULL,
    scope INTEGER NOT NULL,
    texts INTEGER NOT NULL,
    version INTEGER NOT NULL,
    UNIQUE (stem, scope)
) STRICT;
CREATE INDEX vocabulary_by_version ON vocabulary (version);
CREATE TABLE names (
    row INTEGER PRIMARY KEY,
    item INTEGER NOT NULL,
    letters TEXT NOT NULL,
    sounds TEXT NOT NULL,
    rough TEXT NOT NULL
) STRICT;
CREATE INDEX names_by_item ON names (item);
-- An item's row stays here when the item is gone: readers learn of it so.
CREATE TABLE changes (item INTEGER PRIMARY KEY, version INTEGER NOT NULL) STRICT;
CREATE INDEX changes_by_version ON changes (version);
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedVersion:
    """What a tenant's replica holds."""

    tenant: str
    version: int
    created_at_ms: int
    items: int
    manifest_sha256: bytes
    embedding: str


def create(connection: apsw.Connection) -> None:
    """Make the tables of an empty database."""
    connection.execute(SCHEMA)


def applied_version(connection: apsw.Connection) -> AppliedVersion:
    """Return what a replica holds. Raises apsw.Error if it is none."""
    row = connection.execute(
        "SELECT tenant, version, created_at_ms, items, manifest_sha256, embedding FROM knowledge"
    ).fetchone()
    if row is None:
        raise apsw.CorruptError("the row that says what it holds is gone")
    return AppliedVersion(
        tenant=str(row[0]),
        version=int(row[1]),
        created_at_ms=int(row[2]),
        items=int(row[3]),
        manifest_sha256=bytes(row[4]),
        embedding=str(row[5]),
    )


def token(scope: int, stem: str) -> str:
    """Return how the full-text index writes a stem."""
    return f"{scope}_{stem}"


class Writer:
    """Writes items and what is derived from them; `flush` before the transaction ends. Messages must be well-formed."""

    def __init__(self, connection: apsw.Connection, version: int) -> None:
        self._connection = connection
        self._version = version
        self._vocabulary: Counter[tuple[str, int]] = Counter()
        self._scopes: dict[tuple[str, bool], int] = {}

    def put(self, message: KnowledgeItem) -> None:
        """Add an item or replace it. Raises ValueError for what is none."""
        item = from_message(message)
        body = _body(message)
        values = (bool(item.questions), _day(item.valid_from, FIRST_DAY), _day(item.valid_until, LAST_DAY), body)
        row = self._row(item.source, item.id)
        if row is None:
            self._connection.execute(
                "INSERT INTO items (source, id, has_questions, valid_from, valid_until, body, crc)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (item.source, item.id, *values, zlib.crc32(body)),
            )
            row = self._connection.last_insert_rowid()
        else:
            self._drop_derived(row)
            self._connection.execute(
                "UPDATE items SET has_questions = ?, valid_from = ?, valid_until = ?, body = ?, crc = ? WHERE row = ?",
                (*values, zlib.crc32(body), row),
            )
        scope = self.scope(item.source, has_questions=bool(item.questions))
        for text in message.texts:
            self._put_text(row, scope, text)
        self._connection.executemany(
            "INSERT INTO names (item, letters, sounds, rough) VALUES (?, ?, ?, ?)",
            [(row, *spelt_together(words(name))) for name in (item.title, *item.aliases)],
        )
        self._changed(row)

    def scope(self, source: str, *, has_questions: bool) -> int:
        """Return the row of a scope, made when it is new."""
        key = (source, has_questions)
        if key not in self._scopes:
            self._connection.execute("INSERT OR IGNORE INTO scopes (source, has_questions) VALUES (?, ?)", key)
            found = self._connection.execute("SELECT row FROM scopes WHERE (source, has_questions) = (?, ?)", key)
            self._scopes[key] = int(str(found.get))
        return self._scopes[key]

    def put_text(self, row: int, scope: int, text: str, vector: Vector) -> None:
        """Add a text of an item, or of anything else that has a row of its own."""
        found = sorted(content_stems(text))
        self._connection.execute(
            "INSERT INTO texts (item, text, stems, scale, vector, crc) VALUES (?, ?, ?, ?, ?, ?)",
            (row, text, " ".join(found), vector.scale, vector.components, _crc(text, vector)),
        )
        number = self._connection.last_insert_rowid()
        tokens = " ".join(token(scope, stem) for stem in found)
        self._connection.execute("INSERT INTO search (rowid, stems) VALUES (?, ?)", (number, tokens))
        self._vocabulary.update((stem, scope) for stem in found)

    def remove(self, source: str, item_id: str) -> bool:
        """Remove an item; False if there is none."""
        row = self._row(source, item_id)
        if row is None:
            return False
        self._drop_derived(row)
        self._connection.execute("DELETE FROM items WHERE row = ?", (row,))
        self._changed(row)
        return True

    def flush(self) -> None:
        """Write the counts of the vocabulary."""
        self._connection.executemany(
            "INSERT INTO vocabulary (stem, scope, texts, version) VALUES (?, ?, ?, ?) ON CONFLICT (stem, scope)"
            " DO UPDATE SET texts = texts + excluded.texts, version = excluded.version",
            [(stem, scope, count, self._version) for (stem, scope), count in self._vocabulary.items() if count],
        )
        self._vocabulary.clear()

    def _put_text(self, row: int, scope: int, text: ItemText) -> None:
        self.put_text(row, scope, text.text, Vector(components=text.vector, scale=text.scale))

    def _drop_derived(self, row: int) -> None:
        """Remove what an item had, counted out under the scope that it had."""
        scope = 0
        for source, has_questions in self._connection.execute(
            "SELECT source, has_questions FROM items WHERE row = ?", (row,)
        ):
            scope = self.scope(str(source), has_questions=bool(has_questions))
        for text, stems in self._connection.execute("SELECT row, stems FROM texts WHERE item = ?", (row,)).fetchall():
            self._connection.execute("DELETE FROM search WHERE rowid = ?", (text,))
            self._vocabulary.subtract((stem, scope) for stem in str(stems).split())
        self._connection.execute("DELETE FROM texts WHERE item = ?", (row,))
        self._connection.execute("DELETE FROM names WHERE item = ?", (row,))

    def _row(self, source: str, item_id: str) -> int | None:
        found = self._connection.execute("SELECT row FROM items WHERE source = ? AND id = ?", (source, item_id))
        row = found.get
        return int(row) if row is not None else None

    def _changed(self, row: int) -> None:
        self._connection.execute(
            "INSERT INTO changes VALUES (?, ?) ON CONFLICT (item) DO UPDATE SET version = excluded.version",
            (row, self._version),
        )


def stored_items(connection: apsw.Connection) -> Iterator[KnowledgeItem]:
    """Yield every item with its texts, as it was put."""
    for row, body in connection.execute("SELECT row, body FROM items ORDER BY row"):
        message = KnowledgeItem.FromString(bytes(body))
        found = connection.execute("SELECT text, scale, vector FROM texts WHERE item = ? ORDER BY row", (row,))
        message.texts.extend(ItemText(text=text, scale=scale, vector=vector) for text, scale, vector in found)
        yield message


def problem_in(connection: apsw.Connection) -> str | None:
    """Return what is damaged in a database, None if nothing is. Reads all of it."""
    checked = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
    if checked != ["ok"]:
        return f"quick_check: {checked[0]}"
    for source, item_id, body, crc in connection.execute("SELECT source, id, body, crc FROM items"):
        if zlib.crc32(body) != crc:
            return f"item {source}/{item_id} does not fit its checksum"
    for row, text, scale, vector, crc in connection.execute("SELECT row, text, scale, vector, crc FROM texts"):
        if _crc(text, Vector(components=vector, scale=scale)) != crc:
            return f"text {row} does not fit its checksum"
    return None


def problem_with(messages: Sequence[KnowledgeItem], dimensions: int | None) -> str | None:
    """Return why items cannot be put, None if they can: `dimensions` is how long vectors must be, if that is known."""
    for message in messages:
        try:
            from_message(message)
        except ValueError as error:
            return f"item {message.source}/{message.id}: {error}"
        for text in message.texts:
            dimensions = dimensions or len(text.vector)
            if not text.text or not text.vector or len(text.vector) != dimensions:
                return f"item {message.source}/{message.id}: a text has no vector of {dimensions} components"
            if not 0 <= text.scale <= 1:
                return f"item {message.source}/{message.id}: the scale of a vector is {text.scale}"
    return None


def dimensions_of(connection: apsw.Connection) -> int | None:
    """Return how long the vectors are, None if there are none yet."""
    found = connection.execute("SELECT length(vector) FROM texts LIMIT 1").get
    return int(str(found)) if found is not None else None


def _body(message: KnowledgeItem) -> bytes:
    body = KnowledgeItem()
    body.CopyFrom(message)
    body.ClearField("texts")
    return body.SerializeToString(deterministic=True)


def _day(day: date | None, without: int) -> int:
    return day.toordinal() if day is not None else without


def _crc(text: str, vector: Vector) -> int:
    return zlib.crc32(vector.components, zlib.crc32(f"{text}\0{vector.scale!r}".encode()))


def item_of_body(body: bytes) -> Item:
    """Return the item of a stored body."""
    return from_message(KnowledgeItem.FromString(body))
