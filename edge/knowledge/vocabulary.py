"""The words that searched texts are made of, and which of them an unknown word may be a mishearing of. Pure."""

import math
from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from edge.knowledge.words import rough

# Percent of likeness by rough spelling from which an unknown word is read as a known one; short words are too alike.
_LEAST_ALIKE = 86.0
_LEAST_LETTERS = 4
_LEAST_BEGINNING = 6
_REMEMBERED_GUESSES = 512
_REMEMBERED_WEIGHTS = 50_000
_SPARE = 1024


class Vocabulary:
    """Counts of texts by stem. Comparing a word with 50,000 others by likeness takes too long, so that only those are
    compared whose letters and length make the likeness possible at all; none is missed."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._by_scope: dict[tuple[str, int], int] = {}
        self._places: dict[str, int] = {}
        self._stems: list[str] = []
        self._rough: list[str] = []
        self._letters: NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._lengths: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._guesses: OrderedDict[str, str] = OrderedDict()
        self._weights: dict[str, float] = {}
        self._total = 0

    def put(self, stem: str, scope: int, texts: int) -> None:
        """Set in how many texts of a scope a stem stands."""
        before = self._by_scope.get((stem, scope), 0)
        self._by_scope[stem, scope] = texts
        self._counts[stem] = self._counts.get(stem, 0) + texts - before
        if stem not in self._places:
            self._append(stem)
        self._guesses.clear()
        self._weights.clear()

    def count(self, stem: str) -> int:
        """Return in how many texts a stem stands."""
        return self._counts.get(stem, 0)

    def count_in(self, stem: str, scope: int) -> int:
        return self._by_scope.get((stem, scope), 0)

    def weight(self, stems: Iterable[str], total: int) -> float:
        """Return how much words say in all among `total` texts: each the more, the fewer it stands in; one that stands
        in none says as much as one that stands in one."""
        if total != self._total or len(self._weights) > _REMEMBERED_WEIGHTS:
            self._weights.clear()
            self._total = total
        known = self._weights
        weight = 0.0
        for stem in stems:
            if stem not in known:
                known[stem] = math.log(1 + max(total, 1) / max(self._counts.get(stem, 0), 1))
            weight += known[stem]
        return weight

    def nearest_known(self, heard: str) -> str:
        """Return the stem itself if it is known or far from any other, else the one it may be a mishearing of."""
        if self.count(heard) or len(heard) < _LEAST_LETTERS or heard[0].isdigit():
            return heard
        if heard not in self._guesses:
            self._guesses[heard] = self._guess(heard)
            while len(self._guesses) > _REMEMBERED_GUESSES:
                self._guesses.popitem(last=False)
        return self._guesses[heard]

    def _append(self, stem: str) -> None:
        place = len(self._stems)
        self._places[stem] = place
        self._stems.append(stem)
        self._rough.append(rough(stem))
        if place == len(self._lengths):
            spare = _SPARE + place // 4
            self._letters = np.concatenate([self._letters, np.zeros(spare, dtype=np.uint64)])
            self._lengths = np.concatenate([self._lengths, np.zeros(spare, dtype=np.float32)])
        self._letters[place] = _letters(self._rough[place])
        self._lengths[place] = len(self._rough[place])

    def _guess(self, heard: str) -> str:
        sought = rough(heard)
        near = process.extractOne(sought, self._possible(sought), scorer=fuzz.ratio, score_cutoff=_LEAST_ALIKE)
        if near is not None and len(self._stems[near[2]]) >= _LEAST_LETTERS:
            return self._stems[near[2]]
        # "Express shipping" runs together as "expression".
        begun = (heard[:end] for end in range(len(heard), _LEAST_BEGINNING - 1, -1))
        return next((known for known in begun if self.count(known)), heard)

    def _possible(self, sought: str) -> dict[int, str]:
        """Return the rough spellings that may be alike enough. Likeness is 1 - (insertions + deletions) / both lengths;
        a letter that only one of them has, and a letter more, costs one each."""
        used = len(self._stems)
        lengths = self._lengths[:used]
        allowed = (lengths + len(sought)) * (1 - _LEAST_ALIKE / 100)
        differing = np.bitwise_count(self._letters[:used] ^ np.uint64(_letters(sought)))
        fits = (differing <= allowed) & (np.abs(lengths - len(sought)) <= allowed)
        places = (int(place) for place in np.flatnonzero(fits))
        return {place: self._rough[place] for place in places if self._counts[self._stems[place]]}


def _letters(text: str) -> int:
    """Return a bit for each different character."""
    bits = 0
    for character in text:
        bits |= 1 << (ord(character) % 64)
    return bits
