"""Vectors come from the real inference service over its socket."""

from pathlib import Path

import numpy as np
import pytest

from controlplane.knowledge.embedding import BATCH_TEXTS, InferenceEmbedder
from controlplane.knowledge.errors import EmbeddingUnavailableError


async def test_texts_get_unit_vectors_of_a_named_model(socket: Path) -> None:
    """More than one batch, in order."""
    async with InferenceEmbedder(socket) as embedder:
        assert (await embedder.model()).startswith("minilm-l6-v2:")
        texts = [f"lamp number {number}" for number in range(BATCH_TEXTS + 3)]
        vectors = await embedder.embed(texts)
        assert vectors.shape == (BATCH_TEXTS + 3, 384)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
        (again,) = await embedder.embed(texts[-1:])
        assert float(again @ vectors[-1]) > 0.99


@pytest.mark.parametrize("name", ["nobody.sock", None])
async def test_a_missing_service_is_told(tmp_path: Path, name: str | None) -> None:
    """Nobody behind the socket, or no socket at all."""
    async with InferenceEmbedder(tmp_path / name if name is not None else None) as embedder:
        with pytest.raises(EmbeddingUnavailableError):
            await embedder.model()
