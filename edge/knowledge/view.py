"""One knowledge database as calls look at it: items by id, by question, by name, kept up with what is written to it.

Not safe for threads at once; `base` says which thread uses which view.
"""

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Self

import apsw
import numpy as np
from numpy.typing import NDArray

from edge.knowledge import database
from edge.knowledge.examples import Match, best_matches
from edge.knowledge.items import Item
from edge.knowledge.mentions import Mention, NameRow, Names
from edge.knowledge.search import TextSearch

_REMEMBERED_ITEMS = 2048
# A change of more items is loaded apart, so that calls do not wait for it (300 take 10 ms).
MOST_CHANGED = 500
_MOST_WASTED = 20_000
BUSY_TIMEOUT_MS = 2000


class View:
    """Items of some sources. `mentions` maps the sources whose items have names to what such an item is called."""

    def __init__(self, connection: apsw.Connection, sources: frozenset[str], mentions: Mapping[str, str]) -> None:
        self._connection = connection
        self._sources = sources
        self._items: OrderedDict[int, Item | None] = OrderedDict()
        self._data_version = self._read_data_version()
        self._version = self._read_version()
        self._search = TextSearch(connection, sources, frozenset(mentions))
        self._names = {
            source: Names(self._name_rows(source), called, self._item_in) for source, called in mentions.items()
        }
        self._warm_up()

    @classmethod
    def open(cls, path: Path, sources: frozenset[str], mentions: Mapping[str, str]) -> Self:
        """Open a replica. Raises apsw.Error."""
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        # One state of the database for all that is read at once.
        with _reading(connection):
            return cls(connection, sources, mentions)

    @property
    def version(self) -> int:
        """The version of the knowledge, 0 for files."""
        return self._version

    def close(self) -> None:
        self._connection.close()

    def follow(self) -> bool:
        """Take in what was written since; False if that is too much, so that the database should be opened anew."""
        data_version = self._read_data_version()
        if data_version == self._data_version:
            return True
        with _reading(self._connection):
            found = self._connection.execute(
                "SELECT item FROM changes WHERE version > ? LIMIT ?", (self._version, MOST_CHANGED + 1)
            )
            changed = [int(item) for (item,) in found]
            wasted = self._search.wasted + sum(names.wasted for names in self._names.values())
            if len(changed) > MOST_CHANGED or wasted > _MOST_WASTED:
                return False
            self._take_in(changed)
        self._data_version = data_version
        return True

    def item(self, item_id: str) -> Item | None:
        """Return an item, valid or not."""
        found = self._connection.execute("SELECT row, source FROM items WHERE id = ?", (item_id,))
        row = next((int(row) for row, source in found if source in self._sources), None)
        return self._item_in(row) if row is not None else None

    def items(self, most_per_source: int) -> tuple[Item, ...]:
        """Return the items of the sources that have no more than so many."""
        items: list[Item] = []
        for source in sorted(self._sources):
            found = self._connection.execute(
                "SELECT body FROM items WHERE source = ? ORDER BY row LIMIT ?", (source, most_per_source + 1)
            )
            bodies = [bytes(body) for (body,) in found]
            items += map(database.item_of_body, bodies) if len(bodies) <= most_per_source else []
        return tuple(items)

    def search(self, text: str, vector: NDArray[np.float32], today: date) -> list[Match]:
        """Return items valid today that may answer the question, best first; keys are item ids."""

        found = self._search.search(text, vector, today)
        # Their days were looked at already; only ids are needed of all, which spares decoding forty items.
        rows = list({one.item for one in found})
        query = f"SELECT row, id FROM items WHERE row IN ({','.join('?' * len(rows))})"  # noqa: S608 - question marks
        ids = {int(row): str(item_id) for row, item_id in self._connection.execute(query, rows)}
        return best_matches(found, ids.get)

    def known_share(self, text: str) -> float:
        return self._search.known_share(text)

    def mention(self, text: str, source: str, today: date) -> Mention | None:
        """Return what items of a source, valid today, the text names, if any."""
        names = self._names.get(source)
        found = names.find(text) if names is not None else None
        if found is None:
            return None
        valid = tuple(item for item in found.items if item.is_valid(today))
        return replace(found, items=valid) if valid else None

    def sample_text(self) -> tuple[str, NDArray[np.float32]] | None:
        """Return a text with its vector, None if there is none."""
        found = self._connection.execute("SELECT text, scale, vector FROM texts ORDER BY row LIMIT 1").fetchone()
        if found is None:
            return None
        return str(found[0]), np.frombuffer(found[2], dtype=np.int8).astype(np.float32) * float(found[1])

    def _take_in(self, changed: Sequence[int]) -> None:
        self._search.refresh(changed, self._version)
        for source, names in self._names.items():
            rows = [row for item in changed for row in self._name_rows(source, item)]
            names.refresh(changed, rows)
        for item in changed:
            self._items.pop(item, None)
        self._version = self._read_version()

    def _item_in(self, row: int) -> Item | None:
        if row in self._items:
            self._items.move_to_end(row)
            return self._items[row]
        body = self._connection.execute("SELECT body FROM items WHERE row = ?", (row,)).get
        item = database.item_of_body(bytes(body)) if isinstance(body, bytes) else None
        self._items[row] = item
        while len(self._items) > _REMEMBERED_ITEMS:
            self._items.popitem(last=False)
        return item

    def _name_rows(self, source: str, item: int | None = None) -> list[NameRow]:
        query = (
            "SELECT names.item, letters, sounds, rough FROM items JOIN names ON names.item = items.row WHERE source = ?"
        )
        order = " ORDER BY names.row"
        if item is None:
            found = self._connection.execute(query + order, (source,))
        else:
            found = self._connection.execute(f"{query} AND items.row = ?{order}", (source, item))
        return [NameRow(item=row, letters=letters, sounds=sounds, rough=rough) for row, letters, sounds, rough in found]

    def _warm_up(self) -> None:
        """Touch all pages and load what is loaded lazily, so that the first caller does not wait for it (70 ms)."""
        self._search.warm_up()
        for names in self._names.values():
            names.find("a name that nobody has")

    def _read_data_version(self) -> int:
        return int(str(self._connection.execute("PRAGMA data_version").get))

    def _read_version(self) -> int:
        found = self._connection.execute("SELECT version FROM knowledge").get
        return int(str(found)) if found is not None else 0


@contextlib.contextmanager
def _reading(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def data_file(path: Path) -> Path | None:
    """Return which file a replica's link points at, None if there is no replica. Cheap: asked all the time."""
    try:
        return path.parent / path.readlink()
    except FileNotFoundError:
        return None
    except OSError:
        return path  # no link: whatever it is, opening it tells
