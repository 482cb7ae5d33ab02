"""Finds the example sentences nearest to what was said: the search of knowledge, over the examples of intents."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import apsw
import numpy as np
from numpy.typing import NDArray

from contract.knowledge_vectors import quantised
from edge.knowledge import database
from edge.knowledge.search import Found, TextSearch

# Cosine carries more: it sees paraphrases, shared words break ties between near sentences.
_COSINE_WEIGHT = 0.7
_SOURCE = "examples"
# Examples have no dates; any day does.
_ANY_DAY = date(2000, 1, 1)


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


def best_matches(found: Iterable[Found], key_of: Callable[[int], str | None]) -> list[Match]:
    """Return the best match of each key, best first; a row without a key is left out."""
    best: dict[str, Match] = {}
    for one in found:
        key = key_of(one.item)
        if key is None:
            continue
        match = Match(key=key, cosine=one.cosine, lexical=one.lexical)
        known = best.get(key)
        if known is None or match.score > known.score:
            best[key] = match
    return sorted(best.values(), key=lambda match: -match.score)


class ExampleIndex:
    """An in-memory hybrid index; fixed after construction."""

    def __init__(self, examples: Sequence[Example], vectors: NDArray[np.float32]) -> None:
        self._keys = list(dict.fromkeys(example.key for example in examples))
        rows = {key: row for row, key in enumerate(self._keys)}
        connection = apsw.Connection(":memory:")
        database.create(connection)
        writer = database.Writer(connection, version=1)
        scope = writer.scope(_SOURCE, has_questions=True)
        connection.executemany(
            "INSERT INTO items VALUES (?, ?, ?, 1, ?, ?, x'', 0)",
            [(row, _SOURCE, key, database.FIRST_DAY, database.LAST_DAY) for key, row in rows.items()],
        )
        for example, vector in zip(examples, quantised(vectors), strict=True):
            writer.put_text(rows[example.key], scope, example.text, vector)
        writer.flush()
        self._search = TextSearch(connection, frozenset({_SOURCE}), frozenset())

    def search(self, text: str, vector: NDArray[np.float32]) -> list[Match]:
        """Return the best match of each candidate key, best first."""
        return best_matches(self._search.search(text, vector, _ANY_DAY), self._keys.__getitem__)

    def known_share(self, text: str) -> float:
        return self._search.known_share(text)
