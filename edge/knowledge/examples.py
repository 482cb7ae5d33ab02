"""Finds the example sentences nearest to what was said: vectors and BM25, each candidate with both kinds of evidence.

Serves intents and knowledge alike; keys mean nothing here.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import apsw
import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from edge.knowledge.words import STOPWORDS, content_stems, rough, stem, words

# How many rows each of the two searches puts up; more changed no answer on the example tenants.
_CANDIDATES = 24
# Cosine carries more: it sees paraphrases, shared words break ties between near sentences.
_COSINE_WEIGHT = 0.7
# Percent of likeness by rough spelling from which an unknown word is read as a known one; short words are too alike.
_LEAST_ALIKE = 86.0
_LEAST_LETTERS = 4
_LEAST_BEGINNING = 6
_REMEMBERED_GUESSES = 512
# How much of a word counts as known that may be a mishearing of a known one.
_GUESSED_SHARE = 0.7


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
        # By stem: how it is spelt roughly; and what unknown words were taken for.
        self._rough = {word: rough(word) for word in seen}
        self._guesses: OrderedDict[str, str] = OrderedDict()
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
        stems = frozenset(self._nearest_known(one) for one in content_stems(text))
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
        heard = [stem(word) for word in words(text) if word not in STOPWORDS]
        stems = [self._nearest_known(word) for word in heard]
        weight = sum(self._weights.get(word, self._unknown_weight) for word in stems)
        known = sum(
            self._weights.get(word, 0.0) * (1.0 if word == said else _GUESSED_SHARE)
            for word, said in zip(stems, heard, strict=True)
        )
        return known / weight if weight else 0.0

    def _nearest_known(self, heard: str) -> str:
        """Return the stem itself if it is known or long from any other, else the one it may be a mishearing of."""
        if heard in self._weights or len(heard) < _LEAST_LETTERS or heard[0].isdigit():
            return heard
        if heard not in self._guesses:
            self._guesses[heard] = self._guess(heard)
            while len(self._guesses) > _REMEMBERED_GUESSES:
                self._guesses.popitem(last=False)
        return self._guesses[heard]

    def _guess(self, heard: str) -> str:
        near = process.extractOne(rough(heard), self._rough, scorer=fuzz.ratio, score_cutoff=_LEAST_ALIKE)
        if near is not None and len(near[2]) >= _LEAST_LETTERS:
            return str(near[2])
        # "Express shipping" runs together as "expression".
        begun = (known for known in self._weights if len(known) >= _LEAST_BEGINNING and heard.startswith(known))
        return max(begun, key=len, default=heard)

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
