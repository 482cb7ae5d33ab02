"""Hybrid search over the texts of a knowledge database: vectors and BM25, each candidate with both kinds of evidence.

What is compared with every text lies in memory (`VectorMatrix`, `Vocabulary`) and follows the database by `refresh`;
the rest is looked up. Common words are left out of the full-text search where rarer ones were said: their lists are as
long as the catalogue, and they tell nothing apart.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import apsw
import numpy as np
from numpy.typing import NDArray

from edge.knowledge.database import dimensions_of, token
from edge.knowledge.matrix import TextRow, VectorMatrix
from edge.knowledge.vocabulary import Vocabulary
from edge.knowledge.words import STOPWORDS, content_stems, stem, words

# How many rows each of the two searches puts up; more changed no answer on the example tenants.
_CANDIDATES = 24
# Rows looked at for these: some are not valid today.
_LOOKED_AT = 4 * _CANDIDATES
# BM25 takes 0.6 us for each text with one of the words: this many stay within 1 ms.
_MOST_RANKED = 1500
# How much of a word counts as known that may be a mishearing of a known one.
_GUESSED_SHARE = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A text that may be meant: the row of its item, and the evidence."""

    item: int
    cosine: float
    lexical: float


class TextSearch:
    """Searches the texts of some sources; `named` are sources whose items are found by name, so that only their items
    with questions are searched."""

    def __init__(self, connection: apsw.Connection, sources: frozenset[str], named: frozenset[str]) -> None:
        self._connection = connection
        self._sources = sources
        self._named = named
        self._scopes: list[int] = []
        self._vocabulary = Vocabulary()
        self._read_vocabulary(since=-1)
        rows = self._text_rows(_ALL_TEXTS, ())
        self._dimensions = dimensions_of(connection) or 1
        self._matrix = VectorMatrix(rows, self._dimensions)

    @property
    def wasted(self) -> int:
        """How many places of the matrix hold nothing any more."""
        return self._matrix.dead

    def refresh(self, items: Sequence[int], since: int) -> None:
        """Follow the database: these items changed, and the vocabulary after version `since`."""
        self._read_vocabulary(since)
        self._matrix.drop(items)
        self._matrix.put([row for item in items for row in self._text_rows(_TEXTS_OF_ITEM, (item,))])

    def search(self, text: str, vector: NDArray[np.float32], today: date) -> list[Found]:
        """Return the texts that fit best, of items that are valid today, in no order."""
        if not len(self._matrix):
            return []
        day = today.toordinal()
        stems = frozenset(self._vocabulary.nearest_known(one) for one in content_stems(text))
        lexical = self._matrix.places_of(self._lexical_rows(stems), day)[:_CANDIDATES]
        near = (int(place) for place in self._matrix.nearest(vector, day, _CANDIDATES))
        places = list(dict.fromkeys((*near, *lexical)))
        cosines = self._matrix.cosines(np.array(places, dtype=np.intp), vector)
        offered = self._stems_at(places)
        return [
            Found(item=self._matrix.item(place), cosine=float(cosine), lexical=self._overlap(stems, own))
            for place, cosine, own in zip(places, cosines, offered, strict=True)
        ]

    def warm_up(self) -> None:
        """Search for something once."""
        self.search("warming up", np.zeros(self._dimensions, dtype=np.float32), date.max)

    def known_share(self, text: str) -> float:
        """Return which share of the words that carry meaning, by weight, occurs in any searched text at all."""
        heard = [stem(word) for word in words(text) if word not in STOPWORDS]
        stems = [self._vocabulary.nearest_known(word) for word in heard]
        weight = self._weight(stems)
        known = sum(
            self._weight((word,)) * (1.0 if word == said else _GUESSED_SHARE)
            for word, said in zip(stems, heard, strict=True)
            if self._vocabulary.count(word)
        )
        return known / weight if weight else 0.0

    def _weight(self, stems: Iterable[str]) -> float:
        return self._vocabulary.weight(stems, len(self._matrix))

    def _lexical_rows(self, stems: frozenset[str]) -> list[int]:
        counted = [
            (number, token(scope, word))
            for word in stems
            for scope in self._scopes
            if (number := self._vocabulary.count_in(word, scope))
        ]
        if not counted:
            return []
        counted.sort()
        ranked, total = [], 0
        for number, written in counted:
            total += number
            if total > _MOST_RANKED:
                break
            ranked.append(f'"{written}"')
        if ranked:
            return self._rows(
                "SELECT rowid FROM search WHERE search MATCH ? ORDER BY rank LIMIT ?", " OR ".join(ranked)
            )
        # Nothing but common words. Texts with the two rarest of them, in no order: there are too many to rank.
        both = [f'"{written}"' for _, written in counted[:2]]
        return self._rows("SELECT rowid FROM search WHERE search MATCH ? LIMIT ?", " AND ".join(both))

    def _rows(self, query: str, words_sought: str) -> list[int]:
        return [int(row) for (row,) in self._connection.execute(query, (words_sought, _LOOKED_AT))]

    def _stems_at(self, places: Sequence[int]) -> list[list[str]]:
        rows = [self._matrix.row(place) for place in places]
        query = f"SELECT row, stems FROM texts WHERE row IN ({','.join('?' * len(rows))})"  # noqa: S608 - question marks
        found = {int(row): str(stems).split() for row, stems in self._connection.execute(query, rows)}
        return [found.get(row, []) for row in rows]

    def _overlap(self, query: frozenset[str], offered: Sequence[str]) -> float:
        """Return the F1 of the shared words, each weighted by how rare it is."""
        shared = self._weight(query.intersection(offered))
        return 2 * shared / (self._weight(query) + self._weight(offered)) if shared else 0.0

    def _read_vocabulary(self, since: int) -> None:
        self._scopes = [
            int(row)
            for row, source, has_questions in self._connection.execute("SELECT row, source, has_questions FROM scopes")
            if self._is_searched(str(source), has_questions=bool(has_questions))
        ]
        changed = self._connection.execute(
            "SELECT stem, scope, texts FROM vocabulary WHERE version > ? ORDER BY row", (since,)
        )
        searched = frozenset(self._scopes)
        for word, scope, texts in changed:
            if scope in searched:
                self._vocabulary.put(str(word), int(scope), int(texts))

    def _text_rows(self, query: str, bindings: tuple[int, ...]) -> list[TextRow]:
        found = self._connection.execute(query, bindings)
        return [
            TextRow(row=row, item=item, valid_from=first, valid_until=last, scale=scale, vector=vector)
            for row, item, scale, vector, first, last, source, has_questions in found
            if self._is_searched(str(source), has_questions=bool(has_questions))
        ]

    def _is_searched(self, source: str, *, has_questions: bool) -> bool:
        return source in self._sources and (source not in self._named or has_questions)


_ALL_TEXTS = (
    "SELECT texts.row, texts.item, texts.scale, texts.vector, items.valid_from, items.valid_until, items.source,"
    " items.has_questions FROM texts JOIN items ON items.row = texts.item"
)
_TEXTS_OF_ITEM = f"{_ALL_TEXTS} WHERE texts.item = ?"
