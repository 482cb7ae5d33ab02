"""Which of very many names may be in a text, by three letters in a row of their rough spelling. Pure.

Comparing every name with every stretch of a sentence takes 2 ms for 150 names and seconds for 80,000. Misheard names
still share some letters in a row once letters that sound alike are one; the names that share most are compared.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789:."
_BITS = 6
_KINDS = 1 << (3 * _BITS)
_CODES = np.zeros(256, dtype=np.int32)
for _code, _character in enumerate(_ALPHABET, start=1):
    _CODES[ord(_character)] = _code


class TrigramIndex:
    """Names by the trigrams of their spellings, fixed after construction."""

    def __init__(self, spellings: Sequence[str]) -> None:
        self._count = len(spellings)
        trigrams, places = _trigrams("\n".join(spellings))
        order = np.argsort(trigrams, kind="stable")
        self._names: NDArray[np.int32] = places[order]
        self._ends: NDArray[np.int64] = np.cumsum(np.bincount(trigrams, minlength=_KINDS))
        sizes = np.bincount(places, minlength=self._count)
        self._roots: NDArray[np.float32] = np.sqrt(np.maximum(sizes, 1)).astype(np.float32)
        self._short: NDArray[np.intp] = np.flatnonzero(sizes == 0)

    def nearest(self, spelling: str, count: int) -> NDArray[np.intp]:
        """Return the places of the names that share most with a text, in no order; always those too short to say."""
        sought = np.unique(_trigrams(spelling)[0])
        lists = [self._names[self._ends[code - 1] : self._ends[code]] for code in sought]
        shared = np.bincount(np.concatenate(lists), minlength=self._count) if lists else np.zeros(self._count)
        # Between how much of the name is there, which favours short ones, and how much there is of it.
        scores = shared.astype(np.float32) / self._roots
        best = np.argpartition(-scores, min(count, self._count) - 1)[:count]
        return np.union1d(best[scores[best] > 0], self._short)


def _trigrams(text: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the trigrams of lines, each as a number above 0, and of which line each is."""
    raw = np.frombuffer(text.encode("ascii", errors="replace"), dtype=np.uint8)
    if len(raw) < 3:
        return np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.int32)
    codes = _CODES[raw]
    lines = np.cumsum(raw == ord("\n"), dtype=np.int32)[:-2]
    first, second, third = codes[:-2], codes[1:-1], codes[2:]
    inside = (first > 0) & (second > 0) & (third > 0)
    trigrams = (first << (2 * _BITS)) | (second << _BITS) | third
    return trigrams[inside], lines[inside]
