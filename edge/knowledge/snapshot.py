"""Makes a node's database of a snapshot: checked, unpacked, indexed and synced, but not yet running.

Knows files and manifests, not which version runs.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import apsw
import zstandard
from google.protobuf.message import DecodeError

from contract.downlink_pb2 import KnowledgeItem, KnowledgeManifest
from contract.knowledge_snapshot import SNAPSHOT_FORMAT
from contract.uplink_pb2 import Refusal
from edge.knowledge import database
from edge.knowledge.database import AppliedVersion
from edge.knowledge.errors import KnowledgeRefusedError
from edge.shared_folder import make_protected

# Nothing that the hub makes is larger; what claims to be is not unpacked.
LARGEST_FILE_BYTES = 4 * 2**30
_PIECE_BYTES = 2**20


def unpack(manifest: KnowledgeManifest, file: Path, unpacked: Path) -> None:
    """Check the zstd file, unpack it and check what was inside. Raises KnowledgeRefusedError and OSError."""
    size = manifest.snapshot.file_bytes
    if not manifest.HasField("snapshot") or not 0 < size <= LARGEST_FILE_BYTES:
        raise KnowledgeRefusedError(Refusal.REFUSAL_MALFORMED, f"{manifest.tenant}: no manifest of a snapshot")
    with file.open("rb") as stream:
        _check_stream(manifest, stream.fileno(), hashlib.file_digest(stream, "sha256").digest())
    digest, written = hashlib.sha256(), 0
    with file.open("rb") as packed, unpacked.open("wb") as stream:
        try:
            for piece in zstandard.ZstdDecompressor().read_to_iter(packed, write_size=_PIECE_BYTES):
                written += len(piece)
                if written > size:
                    break
                digest.update(piece)
                stream.write(piece)
        except zstandard.ZstdError as error:
            message = f"{manifest.tenant}: the snapshot cannot be unpacked"
            raise KnowledgeRefusedError(Refusal.REFUSAL_MALFORMED, message) from error
    if written != size or digest.digest() != manifest.snapshot.file_sha256:
        raise KnowledgeRefusedError(Refusal.REFUSAL_DIGEST, f"{manifest.tenant}: the file in the snapshot is another")


def _check_stream(manifest: KnowledgeManifest, descriptor: int, digest: bytes) -> None:
    size = os.fstat(descriptor).st_size
    if size < manifest.content_bytes:
        message = f"{manifest.tenant}: {size} of {manifest.content_bytes} bytes of the snapshot are here"
        raise KnowledgeRefusedError(Refusal.REFUSAL_INCOMPLETE, message)
    if size != manifest.content_bytes or digest != manifest.content_sha256:
        raise KnowledgeRefusedError(Refusal.REFUSAL_DIGEST, f"{manifest.tenant}: the snapshot is not what was signed")


def index(manifest: KnowledgeManifest, unpacked: Path, target: Path) -> None:
    """Make the database of this node from the items of a snapshot."""
    holds = AppliedVersion(
        tenant=manifest.tenant,
        version=manifest.version,
        created_at_ms=manifest.created_at_ms,
        items=manifest.items,
        manifest_sha256=manifest_digest(manifest),
        embedding=manifest.snapshot.embedding,
    )
    try:
        with contextlib.closing(apsw.Connection(str(unpacked), flags=apsw.SQLITE_OPEN_READONLY)) as source:
            _check_snapshot(manifest, source)
            fill(target, holds, _snapshot_items(source))
    except (apsw.NotADBError, apsw.CorruptError, apsw.SQLError, DecodeError, ValueError) as error:
        message = f"{manifest.tenant}: the snapshot holds no knowledge"
        raise KnowledgeRefusedError(Refusal.REFUSAL_MALFORMED, message) from error


def _check_snapshot(manifest: KnowledgeManifest, source: apsw.Connection) -> None:
    checked = str(source.execute("PRAGMA quick_check(1)").get)
    row = source.execute("SELECT format, tenant, version, items, (SELECT count(*) FROM items) FROM snapshot").fetchone()
    said = (SNAPSHOT_FORMAT, manifest.tenant, manifest.version, manifest.items, manifest.items)
    if checked != "ok" or row != said:
        message = f"{manifest.tenant}: the snapshot holds something else than its manifest says"
        raise KnowledgeRefusedError(Refusal.REFUSAL_MALFORMED, message)


def _snapshot_items(source: apsw.Connection) -> Iterator[KnowledgeItem]:
    for item_source, item_id, packed in source.execute("SELECT source, id, item FROM items"):
        message = KnowledgeItem.FromString(bytes(packed))
        if (message.source, message.id) != (item_source, item_id):
            raise ValueError("an item stands under another's name")
        yield message


def fill(target: Path, holds: AppliedVersion, items: Iterator[KnowledgeItem]) -> None:
    """Write a whole database and sync it. Raises ValueError for items that are none."""
    make_protected(target)
    with contextlib.closing(apsw.Connection(str(target))) as connection:
        # Nobody reads it yet, and it is synced at the end: a journal would only double the writing.
        for statement in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF", "BEGIN"):
            connection.execute(statement)
        database.create(connection)
        connection.execute(
            "INSERT INTO knowledge VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
            (
                database.INDEX_FORMAT,
                holds.tenant,
                holds.version,
                holds.created_at_ms,
                holds.items,
                holds.manifest_sha256,
                holds.embedding,
            ),
        )
        writer = database.Writer(connection, holds.version)
        dimensions: int | None = None
        for item in items:
            if (problem := database.problem_with([item], dimensions)) is not None:
                raise ValueError(problem)
            dimensions = dimensions or next((len(text.vector) for text in item.texts), None)
            writer.put(item)
        writer.flush()
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL")
    sync(target)


def manifest_digest(manifest: KnowledgeManifest) -> bytes:
    """SHA-256 of a manifest."""
    return hashlib.sha256(manifest.SerializeToString(deterministic=True)).digest()


def sync(path: Path) -> None:
    """See that a file, or the names in a folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
