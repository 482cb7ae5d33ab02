"""Knowledge at the size of a catalogue on this machine alone, without a hub.

Builds the snapshot and a week's delta as the hub does, applies both as a node does, and asks as calls do, with MiniLM
in an inference process of its own. Prints one JSON object.
"""

import asyncio
import contextlib
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.catalogue import SOURCE, VECTORS, Catalogue, exact_vectors, measure_names, measure_retrieval
from contract.downlink_pb2 import DeltaBase, KnowledgeItem, KnowledgeManifest
from contract.knowledge_items import Item, parse_items, texts_of
from contract.knowledge_vectors import quantised
from controlplane.knowledge.content import body_of, pack_delta, snapshot_path, text_digest, with_vectors, write_snapshot
from edge.call.ports import Embedder, Priority, Purpose
from edge.inference.client import InferenceClient
from edge.knowledge.base import open_replica
from edge.knowledge.replica import KnowledgeReplica, link_path

TENANT = "bench-catalogue"
MODELS = Path(".state/models")
WEEK_CHANGES = 300
READY_WITHIN_S = 60.0
_PART_ITEMS = 2000
_PURPOSE = Purpose(tenant="bench", call_id="", priority=Priority.SHADOW, budget_s=60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Built:
    manifest: KnowledgeManifest
    file: Path
    took_s: float


async def measure_alone(catalogue: Catalogue, embedder: Embedder, directory: Path) -> dict[str, Any]:
    """Return the figures of one machine; `directory` is scratch room."""
    vectors = await exact_vectors(catalogue, embedder, VECTORS)
    built = await _snapshot(catalogue, vectors, directory)
    replica = KnowledgeReplica(directory / "knowledge")
    began = time.perf_counter()
    await asyncio.to_thread(replica.apply_snapshot, built.manifest, built.file)
    applied_s = time.perf_counter() - began
    path = link_path(directory / "knowledge", TENANT)
    began = time.perf_counter()
    assert await asyncio.to_thread(replica.examine) == ()
    examined_s = time.perf_counter() - began
    began = time.perf_counter()
    base = await open_replica(path, [SOURCE], {}, embedder, tenant=TENANT)
    opened_s = time.perf_counter() - began
    named = await open_replica(path, [SOURCE], {SOURCE: "the product"}, embedder, tenant=TENANT)
    figures: dict[str, Any] = {
        "items": catalogue.items,
        "snapshot_build_s": round(built.took_s, 2),
        "snapshot_bytes": built.manifest.content_bytes,
        "snapshot_apply_s": round(applied_s, 2),
        "replica_bytes": await asyncio.to_thread(lambda: path.resolve().stat().st_size),
        "examine_s": round(examined_s, 2),
        "open_s": round(opened_s, 2),
    }
    figures |= await measure_retrieval(base, catalogue, embedder)
    figures |= measure_names(named, catalogue)
    content = await _week(catalogue, embedder)
    manifest = KnowledgeManifest(tenant=TENANT, version=2, items=catalogue.items + WEEK_CHANGES // 20)
    manifest.delta.CopyFrom(DeltaBase(version=1))
    manifest.content_sha256, manifest.content_bytes = hashlib.sha256(content).digest(), len(content)
    began = time.perf_counter()
    await asyncio.to_thread(replica.apply_delta, manifest, content)
    applied = time.perf_counter()
    assert base.version == named.version == 2
    return figures | {
        "delta_items": WEEK_CHANGES,
        "delta_bytes": len(content),
        "delta_apply_ms": round((applied - began) * 1000, 1),
        "delta_taken_in_by_two_readers_ms": round((time.perf_counter() - applied) * 1000, 1),
    }


async def _snapshot(catalogue: Catalogue, vectors: np.ndarray[Any, np.dtype[np.float32]], directory: Path) -> _Built:
    began = time.perf_counter()
    packed = await asyncio.to_thread(quantised, vectors)

    async def parts() -> AsyncIterator[Sequence[KnowledgeItem]]:
        for start in range(0, catalogue.items, _PART_ITEMS):
            items = catalogue.all_items[start : start + _PART_ITEMS]
            made = zip(items, packed[start : start + _PART_ITEMS], strict=True)
            yield [with_vectors(body_of(item).packed, {text_digest(texts_of(item)[0]): one}) for item, one in made]

    file = await write_snapshot(directory / "snapshots", TENANT, 1, catalogue.items, parts())
    manifest = KnowledgeManifest(tenant=TENANT, version=1, items=catalogue.items, content_bytes=file.packed_bytes)
    manifest.content_sha256 = bytes.fromhex(file.name)
    manifest.snapshot.file_sha256, manifest.snapshot.file_bytes = file.file_sha256, file.file_bytes
    took_s = time.perf_counter() - began
    return _Built(manifest=manifest, file=snapshot_path(directory / "snapshots", file.name), took_s=took_s)


async def _week(catalogue: Catalogue, embedder: Embedder) -> bytes:
    items = parse_items("\n".join(catalogue.week(1, WEEK_CHANGES)), "jsonl", SOURCE)
    upserts = [await _with_vector(item, embedder) for item in items]
    return pack_delta(upserts, [])


async def _with_vector(item: Item, embedder: Embedder) -> KnowledgeItem:
    texts = texts_of(item)
    vectors = quantised(await embedder.embed(texts, _PURPOSE))
    digests = [text_digest(text) for text in texts]
    return with_vectors(body_of(item).packed, dict(zip(digests, vectors, strict=True)))


@contextlib.contextmanager
def _inference(directory: Path) -> Iterator[Path]:
    """Run an inference service with the embedding model only."""
    socket, config = directory / "inference.sock", directory / "inference.toml"
    config.write_text(f'socket = "{socket}"\nstore = "{MODELS.absolute()}"\n[embedding]\nmodel = "minilm-l6-v2"\n')
    with (directory / "inference.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.inference", "--config", str(config)], stdout=log, stderr=log
        )
    try:
        yield socket
    finally:
        process.terminate()
        process.wait(READY_WITHIN_S)


async def measure_retrieval_alone(items: int) -> dict[str, Any]:
    """The report of `borough bench retrieval`, with an inference service of its own."""
    with tempfile.TemporaryDirectory() as scratch, _inference(Path(scratch)) as socket:
        async with InferenceClient(socket) as embedder:
            await embedder.wait_until_ready(READY_WITHIN_S)
            return await measure_alone(Catalogue(items=items), embedder, Path(scratch))
