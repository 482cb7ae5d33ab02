"""The vectors of all searched texts in memory, in int8. Pure but for numbers: no words, no SQL.

80,000 vectors of 384 take 31 MB and are compared with a query in 1.4 ms on one core (float32: 123 MB and 6 to 11 ms).
The nearest by int8 are compared again with the query as it was, so that only the stored vectors are rounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numkong
import numpy as np
from numpy.typing import NDArray

from edge.knowledge.database import FIRST_DAY, LAST_DAY

# How many of the nearest by int8 are compared again, for each that is wanted.
_RESCORED = 4
_SPARE_ROWS = 2048
_BLOCK = 64

Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRow:
    """One text: its row, the row of its item, the days that the item is valid, its vector."""

    row: int
    item: int
    valid_from: int
    valid_until: int
    scale: float
    vector: bytes


class VectorMatrix:
    """Texts by place; a place whose text is gone stays empty."""

    def __init__(self, rows: Sequence[TextRow], dimensions: int) -> None:
        self._used = 0
        self._dead = 0
        self._day: int | None = None
        self._is_allowed: NDArray[np.bool_] = np.zeros(0, dtype=np.bool_)
        self._dimensions = dimensions
        room = len(rows) + _SPARE_ROWS
        self._vectors: NDArray[np.int8] = np.zeros((room, dimensions), dtype=np.int8)
        self._scales: NDArray[np.float32] = np.zeros(room, dtype=np.float32)
        self._items: NDArray[np.int64] = np.zeros(room, dtype=np.int64)
        self._rows: NDArray[np.int64] = np.zeros(room, dtype=np.int64)
        self._days: NDArray[np.int32] = np.zeros((2, room), dtype=np.int32)
        self._places: NDArray[np.int64] = np.full(max((one.row for one in rows), default=0) + _SPARE_ROWS, -1)
        self.put(rows)

    def __len__(self) -> int:
        return self._used - self._dead

    @property
    def dead(self) -> int:
        """How many places are wasted."""
        return self._dead

    def put(self, rows: Sequence[TextRow]) -> None:
        """Add texts."""
        if not rows:
            return
        self._make_room(len(rows), max(one.row for one in rows))
        places = slice(self._used, self._used + len(rows))
        packed = np.frombuffer(b"".join(one.vector for one in rows), dtype=np.int8)
        self._vectors[places] = packed.reshape(len(rows), self._dimensions)
        self._scales[places] = [one.scale for one in rows]
        self._items[places] = [one.item for one in rows]
        self._rows[places] = [one.row for one in rows]
        self._days[0, places] = [one.valid_from for one in rows]
        self._days[1, places] = [one.valid_until for one in rows]
        self._places[self._rows[places]] = np.arange(places.start, places.stop)
        self._used = places.stop
        self._day = None

    def drop(self, items: Sequence[int]) -> None:
        """Remove the texts of items."""
        gone = np.flatnonzero(np.isin(self._items[: self._used], items))
        self._places[self._rows[gone]] = -1
        self._items[gone] = -1
        # No day is within these.
        self._days[0, gone], self._days[1, gone] = LAST_DAY, FIRST_DAY
        self._dead += len(gone)
        self._day = None

    def nearest(self, vector: NDArray[np.float32], day: int, count: int) -> Places:
        """Return the places of the texts nearest to a unit vector among those valid on a day, best first."""
        allowed = self._allowed(day)
        largest = float(np.abs(vector).max(initial=0.0))
        query = np.round(vector * (127 / largest if largest > 0 else 0)).astype(np.int8)
        dots = np.asarray(numkong.cdist(query[None, :], self._vectors[: self._used], metric="dot"))[0]
        scores = dots.astype(np.float32) * self._scales[: self._used]
        scores[~allowed] = -np.inf
        found = _largest(scores, count * _RESCORED)
        found = found[allowed[found]]
        order = np.argsort(-self.cosines(found, vector), kind="stable")
        return found[order[:count]]

    def cosines(self, places: Places, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the cosines of texts with a unit vector."""
        found: NDArray[np.float32] = (self._vectors[places].astype(np.float32) @ vector) * self._scales[places]
        return found

    def places_of(self, rows: Sequence[int], day: int) -> list[int]:
        """Return where the texts of rows are, in their order, without those that are not here or not valid."""
        known = [row for row in rows if row < len(self._places)]
        places = self._places[known]
        allowed = self._allowed(day)
        return [int(place) for place in places if place >= 0 and allowed[place]]

    def item(self, place: int) -> int:
        return int(self._items[place])

    def row(self, place: int) -> int:
        return int(self._rows[place])

    def _allowed(self, day: int) -> NDArray[np.bool_]:
        if self._day != day:
            days = self._days[:, : self._used]
            self._is_allowed = (days[0] <= day) & (day <= days[1])
            self._day = day
        return self._is_allowed

    def _make_room(self, more: int, largest_row: int) -> None:
        if largest_row >= len(self._places):
            spare = np.full(largest_row + _SPARE_ROWS - len(self._places), -1)
            self._places = np.concatenate([self._places, spare])
        missing = self._used + more - len(self._scales)
        if missing <= 0:
            return
        spare_rows = missing + _SPARE_ROWS
        self._vectors = np.concatenate([self._vectors, np.zeros((spare_rows, self._dimensions), dtype=np.int8)])
        self._scales = np.concatenate([self._scales, np.zeros(spare_rows, dtype=np.float32)])
        self._items = np.concatenate([self._items, np.zeros(spare_rows, dtype=np.int64)])
        self._rows = np.concatenate([self._rows, np.zeros(spare_rows, dtype=np.int64)])
        self._days = np.concatenate([self._days, np.zeros((2, spare_rows), dtype=np.int32)], axis=1)


def _largest(scores: NDArray[np.float32], count: int) -> Places:
    """Return the places of the largest scores, in no order. None of them can lie in a block whose best is not among the
    best of blocks, which spares four fifths of the time of looking at all."""
    blocks = -(-len(scores) // _BLOCK)
    if blocks <= count:
        return np.argpartition(scores, -min(count, len(scores)))[-count:]
    padded = np.full(blocks * _BLOCK, -np.inf, dtype=np.float32)
    padded[: len(scores)] = scores
    table = padded.reshape(blocks, _BLOCK)
    best = np.argpartition(table.max(axis=1), -count)[-count:]
    inside = np.argpartition(table[best].ravel(), -count)[-count:]
    found: Places = best[inside // _BLOCK] * _BLOCK + inside % _BLOCK
    return found[found < len(scores)]
