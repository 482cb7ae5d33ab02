"""Fits the confidence of understanding: `python -m edge.conversation.calibrate MODEL_STORE`.

`paraphrases.jsonl` holds utterances for the example tenants that stand in no document of theirs, each with the intent
or item it asks for, or null for questions nobody there can answer; `topic` is the item
talked about before. The logistic model learns how often the best hypothesis is right, given its evidence. Half of the
lines (by hash) is fitted, the other half measures.
"""

import asyncio
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.model_manifest import ModelKind
from edge.call.ports import Embedder, Priority, Purpose
from edge.conversation.conversation import open_understander
from edge.conversation.dialogue import DialogueState
from edge.conversation.documents import load_agents
from edge.conversation.understanding import FEATURES, Calibration
from edge.inference.minilm import SentenceEncoder
from edge.inference.model_store import open_model

PARAPHRASES = Path(__file__).with_name("paraphrases.jsonl")
TENANTS = Path(__file__).parents[1] / "tenants"
_BINS = 5
# Keeps the weights of a few hundred lines from growing without bound; about one standard deviation of doubt each.
_RIDGE = 0.3
_STEPS = 50
_PURPOSE = Purpose(tenant="", call_id="", priority=Priority.SHADOW, budget_s=60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One paraphrase: the evidence for the best hypothesis, and whether it was right."""

    text: str
    wanted: str | None
    found: str
    features: tuple[float, ...]

    @property
    def is_right(self) -> bool:
        return self.found == self.wanted

    @property
    def is_held_out(self) -> bool:
        return hashlib.sha256(self.text.encode()).digest()[0] % 2 == 0


class LocalEmbedder:
    """The encoder in this process, for offline work."""

    def __init__(self, encoder: SentenceEncoder) -> None:
        self._encoder = encoder

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> NDArray[np.float32]:
        """See Embedder; blocks."""
        del purpose
        return self._encoder.embed(texts)


def local_embedder(store: Path) -> LocalEmbedder:
    """Load MiniLM from a model store. Raises ModelLoadError."""
    return LocalEmbedder(SentenceEncoder(open_model(store, "minilm-l6-v2", ModelKind.EMBEDDING), threads=1))


async def observe(embedder: Embedder, cache: Path | None, today: date) -> list[Observation]:
    """Return what understanding makes of every paraphrase, each as the first words of a call or after its topic."""
    rows = [json.loads(line) for line in PARAPHRASES.read_text(encoding="utf-8").splitlines()]
    observations: list[Observation] = []
    for tenant in dict.fromkeys(row["tenant"] for row in rows):
        agent = load_agents(TENANTS / tenant)[0]
        _, understander = await open_understander(agent, embedder, cache=cache)
        for row in rows:
            if row["tenant"] != tenant:
                continue
            state = DialogueState(topic_item_id=row.get("topic"))
            query = understander.prepare(row["text"], state, today)
            vectors = await embedder.embed(query.texts, _PURPOSE)
            best = understander.rank(query, vectors, state, today)[0]
            found = best.item.id if best.item is not None else best.name
            observations.append(
                Observation(text=row["text"], wanted=row["wanted"], found=found, features=best.features)
            )
    return observations


def fit(observations: Sequence[Observation]) -> tuple[float, ...]:
    """Return logistic coefficients by Newton's method with a ridge on all but the constant."""
    inputs = np.array([one.features for one in observations])
    right = np.array([float(one.is_right) for one in observations])
    penalty = np.diag([0.0] + [_RIDGE] * (inputs.shape[1] - 1))
    weights = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        probability = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (right - probability) - penalty @ weights
        curvature = (inputs * (probability * (1 - probability))[:, None]).T @ inputs + penalty
        weights = weights + np.linalg.solve(curvature + 1e-6 * np.eye(len(weights)), gradient)
    return tuple(round(float(weight), 4) for weight in weights)


def expected_calibration_error(calibration: Calibration, observations: Sequence[Observation]) -> float:
    """Return the mean distance between stated and observed probability, over equal bins, weighted by their size."""
    stated = np.array([calibration.probability(one.features) for one in observations])
    right = np.array([float(one.is_right) for one in observations])
    bins = np.minimum((stated * _BINS).astype(int), _BINS - 1)
    gaps = [abs(stated[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in set(bins.tolist())]
    return float(sum(gaps))


def main() -> None:
    store = Path(sys.argv[1])
    encoder = SentenceEncoder(open_model(store, "minilm-l6-v2", ModelKind.EMBEDDING), threads=1)
    today = datetime.now(UTC).date()
    observations = asyncio.run(observe(LocalEmbedder(encoder), None, today))
    fitted = [one for one in observations if not one.is_held_out]
    held_out = [one for one in observations if one.is_held_out]
    provenance = (
        f"fitted {today} on {len(fitted)} of {len(observations)} lines of {PARAPHRASES.name} "
        f"(sha256 {hashlib.sha256(PARAPHRASES.read_bytes()).hexdigest()[:16]}) with {encoder.name}"
    )
    calibration = Calibration(coefficients=fit(fitted), provenance=provenance)
    error = expected_calibration_error(calibration, held_out)
    document = {
        "features": FEATURES,
        "coefficients": calibration.coefficients,
        "provenance": provenance,
        "held_out_lines": len(held_out),
        "held_out_calibration_error": round(error, 4),
    }
    Path(__file__).with_name("calibration.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
