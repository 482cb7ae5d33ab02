"""Sentence vectors: a BERT encoder in CTranslate2 (int8), mean of the token vectors, unit length.

Source: the model card of sentence-transformers/all-MiniLM-L6-v2 (mean pooling, then L2 normalisation).
"""

from collections.abc import Sequence

import ctranslate2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edge.inference.errors import ModelLoadError
from edge.inference.model_store import VerifiedModel

# The card: longer text is cut at 256 word pieces.
MAX_TOKENS = 256
# Texts run together; more would keep others waiting (32 short texts take 35 ms).
BATCH_TEXTS = 32

Vectors = NDArray[np.float32]


class SentenceEncoder:
    """Blocking; one thread at a time."""

    def __init__(self, model: VerifiedModel, *, threads: int) -> None:
        """Load the weights. Raises ModelLoadError."""
        try:
            self._encoder = ctranslate2.Encoder(
                str(model.directory), compute_type="int8", inter_threads=1, intra_threads=threads
            )
            self._tokenizer = Tokenizer.from_file(str(model.directory / "tokenizer.json"))
        except (RuntimeError, ValueError, OSError) as error:
            raise ModelLoadError(f"{model.directory}: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self.name = f"{model.manifest.name}:{model.manifest.digest()}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return unit vectors, shape (len(texts), dimensions)."""
        ids = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        # Texts of like length share a batch: padding is computed too.
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        vectors: dict[int, Vectors] = {}
        for start in range(0, len(order), BATCH_TEXTS):
            batch = order[start : start + BATCH_TEXTS]
            vectors.update(zip(batch, self._encode([ids[index] for index in batch]), strict=True))
        return np.stack([vectors[index] for index in range(len(ids))])

    def _encode(self, ids: list[list[int]]) -> list[Vectors]:
        hidden = np.array(self._encoder.forward_batch(ids).last_hidden_state)
        means = [hidden[row, : len(tokens)].mean(axis=0) for row, tokens in enumerate(ids)]
        return [(mean / np.linalg.norm(mean)).astype(np.float32) for mean in means]
