"""Vectors come from the real inference service over its socket."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from controlplane.knowledge.embedding import BATCH_TEXTS, InferenceEmbedder
from controlplane.knowledge.errors import EmbeddingUnavailableError
from provisioning.models.fetching import fetch
from provisioning.models.store import ModelStore

ROOT = Path(__file__).parents[3]
STORE = ROOT / ".state/models"
READY_WITHIN_S = 60.0


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A service with the embedding model only."""
    fetch(ModelStore(root=STORE), "minilm-l6-v2", lambda _: None)
    directory = tmp_path_factory.mktemp("inference")
    path, config = directory / "i.sock", directory / "inference.toml"
    config.write_text(f'socket = "{path}"\nstore = "{STORE}"\n[embedding]\nmodel = "minilm-l6-v2"\n')
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.inference", "--config", str(config)],
            stdout=log,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    deadline = time.monotonic() + READY_WITHIN_S
    while not path.exists():
        assert process.poll() is None, (directory / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield path
    process.terminate()
    process.wait(READY_WITHIN_S)


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
