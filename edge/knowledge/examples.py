"""Finds the example sentences nearest to what was said: vectors and BM25, each candidate with both kinds of evidence.

Serves intents and knowledge alike; keys mean nothing here.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import apsw
import numpy as np
from numpy.typing import NDArray

from edge.knowledge.words import STOPWORDS, content_stems, stem, words

# How many rows each of the two searches puts up; more changed no answer on the example tenants.
_CANDIDATES = 24
# Cosine carries more: it sees paraphrases, shared words break ties between near sentences.
_COSINE_WEIGHT = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A sentence that stands for `key`."""

    key: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """How well a sentence fits a key: `cosine` of the nearest example, `lexical` 0-1 shared weight of words."""

    key: str
    cosine: float
    lexical: float

    @property
    def score(self) -> float:
        return _COSINE_WEIGHT * self.cosine + (1 - _COSINE_WEIGHT) * self.lexical


class ExampleIndex:
    """An in-memory hybrid index; fixed after construction."""

    def __init__(self, examples: Sequence[Example], vectors: NDArray[np.float32]) -> None:
        self._keys = [example.key for example in examples]
        self._vectors = vectors
        self._stems = [content_stems(example.text) for example in examples]
        seen = Counter(word for stems in self._stems for word in stems)
        total = max(len(examples), 1)
        self._weights = {word: math.log(1 + total / number) for word, number in seen.items()}
        self._unknown_weight = math.log(1 + total)
        self._database = apsw.Connection(":memory:")
        self._database.execute("CREATE VIRTUAL TABLE examples USING fts5(stems, content='', tokenize='ascii')")
        self._database.executemany(
            "INSERT INTO examples (rowid, stems) VALUES (?, ?)",
            [(row, " ".join(sorted(stems))) for row, stems in enumerate(self._stems, start=1)],
        )

    def search(self, text: str, vector: NDArray[np.float32]) -> list[Match]:
        """Return the best match of each candidate key, best first."""
        if not self._keys:
            return []
        cosines = self._vectors @ vector
        stems = content_stems(text)
        nearest = np.argpartition(-cosines, min(_CANDIDATES, len(self._keys) - 1))[:_CANDIDATES]
        rows = {int(row) for row in nearest} | self._lexical_rows(stems)
        best: dict[str, Match] = {}
        for row in rows:
            match = Match(
                key=self._keys[row], cosine=float(cosines[row]), lexical=self._overlap(stems, self._stems[row])
            )
            known = best.get(match.key)
            if known is None or match.score > known.score:
                best[match.key] = match
        return sorted(best.values(), key=lambda match: -match.score)

    def known_share(self, text: str) -> float:
        """Return which share of the words that carry meaning, by weight, occurs in any example at all."""
        stems = [stem(word) for word in words(text) if word not in STOPWORDS]
        weight = sum(self._weights.get(word, self._unknown_weight) for word in stems)
        known = sum(self._weights.get(word, 0.0) for word in stems)
        return known / weight if weight else 0.0

    def _lexical_rows(self, stems: frozenset[str]) -> set[int]:
        if not stems:
            return set()
        query = " OR ".join(f'"{word}"' for word in sorted(stems))
        found = self._database.execute(
            "SELECT rowid FROM examples WHERE examples MATCH ? ORDER BY rank LIMIT ?", (query, _CANDIDATES)
        )
        return {int(row) - 1 for (row,) in found}

    def _overlap(self, query: frozenset[str], example: frozenset[str]) -> float:
        """Return the F1 of the shared words, each weighted by how rare it is."""
        shared = sum(self._weights[word] for word in query & example)
        if not shared:
            return 0.0
        asked = sum(self._weights.get(word, self._unknown_weight) for word in query)
        offered = sum(self._weights[word] for word in example)
        return 2 * shared / (asked + offered)
