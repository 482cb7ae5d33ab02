"""Finds items by name in what was heard, even when the recogniser misspelt or split the name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rapidfuzz import fuzz, process

from edge.knowledge.items import Item
from edge.knowledge.words import STOPWORDS, rough, sound, words

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
class _Name:
    letters: str
    sounds: str
    rough: str
    words: frozenset[str]
    item: Item


class Names:
    """The names of the items of one source."""

    def __init__(self, items: Sequence[Item], called: str) -> None:
        self._called = called
        self._names = [
            _Name(
                letters=_squash(words(alias)),
                sounds=_sounds(words(alias)),
                rough=_rough(words(alias)),
                words=frozenset(words(alias)),
                item=item,
            )
            for item in items
            for alias in (item.title, *item.aliases)
        ]
        self._letters = [name.letters for name in self._names]
        self._sounds = [name.sounds for name in self._names]
        self._rough = [name.rough for name in self._names]
        self._most_by_rough = np.array(
            [1.0 if len(name.rough) >= _LONG_ROUGH else SURE - 0.01 for name in self._names], dtype=np.float32
        )

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
        if not spans or not self._names:
            return None
        scores = self._similarities([heard[start:end] for start, end in spans])
        least = SURE if float(scores.max()) >= SURE else _POSSIBLE
        best_row, best_value = -1, 0.0
        for row in range(len(spans)):
            column = int(scores[row].argmax())
            certainty = float(scores[row, column])
            # A longer name that fits is the one that was meant: "AeroBuds Pro", not "AeroBuds".
            value = certainty * min(len(self._letters[column]), 24) ** 0.5
            if certainty >= least and value > best_value:
                best_row, best_value = row, value
        return self._mention(heard, spans[best_row], scores[best_row]) if best_row >= 0 else None

    def _similarities(self, phrases: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        letters = [_squash(phrase) for phrase in phrases]
        by_letters = process.cdist(letters, self._letters, scorer=fuzz.ratio, dtype=np.float32) / 100
        by_sound = process.cdist(
            [_sounds(phrase) for phrase in phrases], self._sounds, scorer=fuzz.ratio, dtype=np.float32
        )
        by_rough = process.cdist(
            [_rough(phrase) for phrase in phrases], self._rough, scorer=fuzz.ratio, dtype=np.float32
        )
        scores: NDArray[np.float32] = np.maximum(by_letters, by_letters * 0.5 + by_sound / 100 * 0.5 * _SOUND_DISCOUNT)
        scores = np.maximum(scores, np.minimum(by_rough / 100 * _ROUGH_DISCOUNT, self._most_by_rough))
        for column, name in enumerate(self._letters):
            if len(name) <= _SHORT_LETTERS or any(character.isdigit() for character in name):
                for row, phrase in enumerate(letters):
                    if _needs_exact(name, phrase):
                        scores[row, column] = 0.0
                    elif _NUMBER.search(name) and phrase[0] == name[0]:
                        scores[row, column] = min(1.0, scores[row, column] + _SAME_NUMBER_BONUS)
        return scores

    def _mention(self, heard: Sequence[str], span: tuple[int, int], scores: NDArray[np.float32]) -> Mention:
        best = float(scores.max())
        found: dict[str, Item] = {}
        for column in np.flatnonzero(scores >= best - 1e-6):
            item = self._names[int(column)].item
            found.setdefault(item.id, item)
        start, end = span
        # "Cordless vacuum cleaner" names a "cordless vacuum" with one word more of its title.
        vocabulary = {word for name in self._names if name.item.id in found for word in name.words}
        while end < len(heard) and heard[end] in vocabulary - STOPWORDS:
            end += 1
        before = list(heard[:start])
        while before and before[-1] in vocabulary - STOPWORDS:
            before.pop()
        while before and before[-1] in {"the", "a", "an", "your", "my"}:
            before.pop()
        masked = " ".join([*before, self._called, *heard[end:]])
        name = " ".join(heard[start:end])
        return Mention(items=tuple(found.values()), certainty=best, masked=masked, heard=name)


def _needs_exact(name: str, phrase: str) -> bool:
    """Whether name and phrase differ where they must not: short names as a whole, others in their numbers."""
    if len(name) <= _SHORT_LETTERS:
        return name != phrase
    return [character for character in name if character.isdigit()] != [
        character for character in phrase if character.isdigit()
    ]


def _squash(phrase: Sequence[str]) -> str:
    # The recogniser writes "AeroBuds" as two words as often as one.
    return "".join(phrase)


def _sounds(phrase: Sequence[str]) -> str:
    return sound("".join(phrase))


def _rough(phrase: Sequence[str]) -> str:
    return rough("".join(phrase))
