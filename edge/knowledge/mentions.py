"""Finds items by name in what was heard, even when the recogniser misspelt or split the name."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from edge.knowledge.items import Item
from edge.knowledge.spellings import TrigramIndex
from edge.knowledge.words import STOPWORDS, rough, spelt_together, words

_LONGEST_NAME_WORDS = 5
# Letters 0-1 that must agree. Below 0.83 "soundbar" starts to match "sandbag".
SURE = 0.83
# From here on a name is worth asking about: "noble book" for NovaBook.
_POSSIBLE = 0.74
# Short names differ from common words by one letter, so they must be exact.
_SHORT_LETTERS = 4
_SOUND_DISCOUNT = 0.94
# Likeness of rough spellings alone makes sure of long names only.
_ROUGH_DISCOUNT = 0.95
_LONG_ROUGH = 8
# The same number of two digits or more in both: "sound with 500" is the Soundwave 500.
_SAME_NUMBER_BONUS = 0.02
# Up to so many names all are compared (the catalogues of the example tenants have 150).
_MOST_COMPARED = 2000
_CANDIDATES = 192
_NUMBER = re.compile(r"\d{2,}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """Items named by the same words: more than one when the name is ambiguous. `masked` is the text with the name
    replaced by what such items are called; `heard` is the name as it was heard."""

    items: tuple[Item, ...]
    certainty: float
    masked: str
    heard: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NameRow:
    """A title or alias of an item by its row, spelt in the three ways that are compared."""

    item: int
    letters: str
    sounds: str
    rough: str


class Names:
    """The names of the items of one source. `item_of` gives the item of a row, None if it is gone."""

    def __init__(self, rows: Sequence[NameRow], called: str, item_of: Callable[[int], Item | None]) -> None:
        self._called = called
        self._item_of = item_of
        self._rows = list(rows)
        self._items = np.array([row.item for row in rows], dtype=np.int64)
        self._gone: set[int] = set()
        self._first = TrigramIndex([row.rough for row in rows]) if len(rows) > _MOST_COMPARED else None
        self._indexed = len(rows) if self._first is not None else 0
        self._later: TrigramIndex | None = None

    @property
    def wasted(self) -> int:
        """How many names are gone or stand outside the large index."""
        return len(self._gone) + len(self._rows) - self._indexed if self._first is not None else len(self._gone)

    def refresh(self, items: Iterable[int], rows: Sequence[NameRow]) -> None:
        """Forget the names of items and add others."""
        self._gone.update(np.flatnonzero(np.isin(self._items, list(items))).tolist())
        self._items = np.concatenate([self._items, np.array([row.item for row in rows], dtype=np.int64)])
        self._rows += rows
        if self._first is not None or len(self._rows) > _MOST_COMPARED:
            self._later = TrigramIndex([row.rough for row in self._rows[self._indexed :]])

    def find(self, text: str) -> Mention | None:
        """Return the longest and most certain mention, None if no name is in the text. A certainty below SURE means
        that the name may be another word."""
        heard = words(text)
        spans = [
            (start, end)
            for start in range(len(heard))
            for end in range(start + 1, min(start + _LONGEST_NAME_WORDS, len(heard)) + 1)
            if heard[start] not in STOPWORDS and heard[end - 1] not in STOPWORDS
        ]
        names = self._candidates(heard) if spans else []
        if not names:
            return None
        scores = _similarities([heard[start:end] for start, end in spans], names)
        least = SURE if float(scores.max()) >= SURE else _POSSIBLE
        best_row, best_value = -1, 0.0
        for row in range(len(spans)):
            column = int(scores[row].argmax())
            certainty = float(scores[row, column])
            # A longer name that fits is the one that was meant: "AeroBuds Pro", not "AeroBuds".
            value = certainty * min(len(names[column].letters), 24) ** 0.5
            if certainty >= least and value > best_value:
                best_row, best_value = row, value
        return self._mention(heard, spans[best_row], names, scores[best_row]) if best_row >= 0 else None

    def _candidates(self, heard: Sequence[str]) -> list[NameRow]:
        """Return the names worth comparing: all of few, of many those that share most with what was heard."""
        if self._first is None and self._later is None:
            return [row for place, row in enumerate(self._rows) if place not in self._gone]
        sought = rough("".join(heard))
        places: list[int] = []
        for index, offset in ((self._first, 0), (self._later, self._indexed)):
            if index is not None:
                places += [offset + int(place) for place in index.nearest(sought, _CANDIDATES)]
        return [self._rows[place] for place in places if place not in self._gone]

    def _mention(
        self, heard: Sequence[str], span: tuple[int, int], names: Sequence[NameRow], scores: NDArray[np.float32]
    ) -> Mention | None:
        best = float(scores.max())
        found: dict[str, Item] = {}
        for column in np.flatnonzero(scores >= best - 1e-6):
            item = self._item_of(names[int(column)].item)
            if item is not None:
                found.setdefault(item.id, item)
        start, end = span
        # "Cordless vacuum cleaner" names a "cordless vacuum" with one word more of its title.
        vocabulary = {word for item in found.values() for name in (item.title, *item.aliases) for word in words(name)}
        while end < len(heard) and heard[end] in vocabulary - STOPWORDS:
            end += 1
        before = list(heard[:start])
        while before and before[-1] in vocabulary - STOPWORDS:
            before.pop()
        while before and before[-1] in {"the", "a", "an", "your", "my"}:
            before.pop()
        masked = " ".join([*before, self._called, *heard[end:]])
        name = " ".join(heard[start:end])
        return Mention(items=tuple(found.values()), certainty=best, masked=masked, heard=name) if found else None


def names_of(items: Sequence[Item], called: str) -> Names:
    """Return the names of items that lie in memory."""
    rows = [
        NameRow(item=place, letters=letters, sounds=sounds, rough=roughly)
        for place, item in enumerate(items)
        for letters, sounds, roughly in (spelt_together(words(name)) for name in (item.title, *item.aliases))
    ]
    return Names(rows, called, items.__getitem__)


def _similarities(phrases: Sequence[Sequence[str]], names: Sequence[NameRow]) -> NDArray[np.float32]:
    """Return how alike each phrase is to each name, 0-1."""
    spelt = [spelt_together(phrase) for phrase in phrases]
    letters = [one[0] for one in spelt]
    by_letters = _ratios(letters, [name.letters for name in names])
    by_sound = _ratios([one[1] for one in spelt], [name.sounds for name in names])
    by_rough = _ratios([one[2] for one in spelt], [name.rough for name in names])
    most_by_rough = np.array([1.0 if len(name.rough) >= _LONG_ROUGH else SURE - 0.01 for name in names], np.float32)
    scores: NDArray[np.float32] = np.maximum(by_letters, by_letters * 0.5 + by_sound * (0.5 * _SOUND_DISCOUNT))
    np.maximum(scores, np.minimum(by_rough * _ROUGH_DISCOUNT, most_by_rough), out=scores)
    numbers = [_digits(phrase) for phrase in letters]
    for column, name in enumerate(names):
        number = _digits(name.letters)
        if not number and len(name.letters) > _SHORT_LETTERS:
            continue
        has_bonus = _NUMBER.search(name.letters) is not None
        for row, phrase in enumerate(letters):
            # Where they must not differ: short names as a whole, others in their numbers.
            differs = name.letters != phrase if len(name.letters) <= _SHORT_LETTERS else number != numbers[row]
            if differs:
                scores[row, column] = 0.0
            elif has_bonus and phrase[0] == name.letters[0]:
                scores[row, column] = min(1.0, scores[row, column] + _SAME_NUMBER_BONUS)
    return scores


def _ratios(phrases: Sequence[str], names: Sequence[str]) -> NDArray[np.float32]:
    found: NDArray[np.float32] = process.cdist(phrases, names, scorer=fuzz.ratio, dtype=np.float32)
    return found / np.float32(100)


def _digits(letters: str) -> str:
    return "".join(character for character in letters if character.isdigit())
