"""Snapshots and deltas as the hub makes them, small, for tests of the node's side."""

import hashlib
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import apsw
import numpy as np
import zstandard
from numpy.typing import NDArray

from contract.downlink_pb2 import DeltaBase, DeltaContent, ItemKey, ItemText, KnowledgeItem, KnowledgeManifest
from contract.knowledge_items import Item, as_message, texts_of
from contract.knowledge_snapshot import SNAPSHOT_FORMAT, SNAPSHOT_SCHEMA
from contract.knowledge_vectors import quantised

TENANT = "shop"
Embed = Callable[[Sequence[str]], NDArray[np.float32]]
CREATED_AT_MS = 1_800_000_000_000


def letter_vectors(texts: Sequence[str]) -> NDArray[np.float32]:
    """Counts letters: texts of the same letters are near. Enough where meaning does not matter."""
    rows = [[text.lower().count(chr(letter)) + 0.01 for letter in range(97, 123)] for text in texts]
    vectors = np.array(rows, dtype=np.float32)
    unit: NDArray[np.float32] = vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    return unit


def an_item(
    name: str, *, version: int = 1, price: str = "5", valid_from: date | None = None, valid_until: date | None = None
) -> Item:
    """A product of the source "products"."""
    return Item(
        id=name,
        version=version,
        title=f"{name} lamp",
        source="products",
        answer=f"The {name} lamp gives light.",
        attributes={"price": price},
        valid_from=valid_from,
        valid_until=valid_until,
    )


def message_of(item: Item, embed: Embed = letter_vectors) -> KnowledgeItem:
    texts = texts_of(item)
    vectors = quantised(embed(texts))
    return as_message(
        item,
        [
            ItemText(text=text, vector=vector.components, scale=vector.scale)
            for text, vector in zip(texts, vectors, strict=True)
        ],
    )


def make_snapshot(
    directory: Path,
    items: Sequence[Item],
    *,
    version: int = 1,
    tenant: str = TENANT,
    inside: str | None = None,
    embed: Embed = letter_vectors,
) -> tuple[KnowledgeManifest, Path]:
    """Write the zstd file of a snapshot; `inside` is the tenant that the file itself names."""
    plain = directory / f"{tenant}-{version}.sqlite"
    plain.unlink(missing_ok=True)
    connection = apsw.Connection(str(plain))
    connection.execute(SNAPSHOT_SCHEMA)
    connection.execute(
        "INSERT INTO snapshot VALUES (1, ?, ?, ?, ?)", (SNAPSHOT_FORMAT, inside or tenant, version, len(items))
    )
    connection.executemany(
        "INSERT INTO items VALUES (?, ?, ?)",
        [(item.source, item.id, message_of(item, embed).SerializeToString()) for item in items],
    )
    connection.close()
    file = directory / f"{tenant}-{version}.zst"
    return pack(plain, file, KnowledgeManifest(tenant=tenant, version=version, items=len(items))), file


def pack(plain: Path, file: Path, manifest: KnowledgeManifest) -> KnowledgeManifest:
    """Compress a file and describe it."""
    file.write_bytes(zstandard.compress(plain.read_bytes()))
    manifest.region = "in-south"
    manifest.created_at_ms = CREATED_AT_MS + manifest.version
    manifest.content_sha256 = hashlib.sha256(file.read_bytes()).digest()
    manifest.content_bytes = file.stat().st_size
    manifest.snapshot.object = manifest.content_sha256.hex()
    manifest.snapshot.file_sha256 = hashlib.sha256(plain.read_bytes()).digest()
    manifest.snapshot.file_bytes = plain.stat().st_size
    manifest.snapshot.embedding = "letters"
    return manifest


def make_delta(
    upserts: Sequence[Item],
    removals: Sequence[str] = (),
    *,
    version: int,
    items: int,
    tenant: str = TENANT,
    embed: Embed = letter_vectors,
) -> tuple[KnowledgeManifest, bytes]:
    """Return a delta that leads to `version` with `items` in all."""
    content = DeltaContent(
        upserts=[message_of(item, embed) for item in upserts],
        removals=[ItemKey(source="products", id=item_id) for item_id in removals],
    )
    return describe_delta(zstandard.compress(content.SerializeToString()), version=version, items=items, tenant=tenant)


def describe_delta(packed: bytes, *, version: int, items: int, tenant: str = TENANT) -> tuple[KnowledgeManifest, bytes]:
    """Return the manifest that fits the bytes of a delta."""
    manifest = KnowledgeManifest(
        region="in-south",
        tenant=tenant,
        version=version,
        created_at_ms=CREATED_AT_MS + version,
        items=items,
        content_sha256=hashlib.sha256(packed).digest(),
        content_bytes=len(packed),
        delta=DeltaBase(version=version - 1),
    )
    return manifest, packed
