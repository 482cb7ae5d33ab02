"""Sentence vectors of fixed texts, kept on disk so that a worker starts without computing them again."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.call.ports import Embedder, Priority, Purpose

_BATCH = 32
# Nobody waits for these, but a worker must not hang at its start either.
_BUDGET_S = 60.0
_PROBE = "How much does it cost to open an account on Saturday?"


async def embed_texts(
    texts: Sequence[str], embedder: Embedder, *, tenant: str, cache: Path | None
) -> NDArray[np.float32]:
    """Return one unit vector a text, shape (len(texts), dimensions), from `cache` where they stand already.

    The cache's key covers the texts and the model: a probe sentence tells models apart.
    """
    purpose = Purpose(tenant=tenant, call_id="", priority=Priority.SHADOW, budget_s=_BUDGET_S)
    probe = await embedder.embed([_PROBE], purpose)
    if not texts:
        return np.zeros((0, probe.shape[1]), dtype=np.float32)
    path = cache / f"{_digest(texts, probe)}.npy" if cache is not None else None
    if path is not None and path.is_file():
        stored: NDArray[np.float32] = np.load(path, allow_pickle=False)
        if stored.shape == (len(texts), probe.shape[1]):
            return stored
    parts = [await embedder.embed(texts[start : start + _BATCH], purpose) for start in range(0, len(texts), _BATCH)]
    vectors = np.concatenate(parts).astype(np.float32)
    if path is not None:
        _store(path, vectors)
    return vectors


def _digest(texts: Sequence[str], probe: NDArray[np.float32]) -> str:
    # Two decimals: the same model on another processor differs only in the last bits.
    model = np.round(probe[0], 2).tobytes()
    return hashlib.sha256(model + "\0".join(texts).encode()).hexdigest()[:32]


def _store(path: Path, vectors: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{hashlib.sha256(vectors.tobytes()).hexdigest()[:8]}.partial")
    with partial.open("wb") as stream:
        np.save(stream, vectors)
    partial.rename(path)
