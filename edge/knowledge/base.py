"""The knowledge of one agent: its items, found by id, by name or by question."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.call.ports import Embedder
from edge.knowledge.examples import Example, ExampleIndex, Match
from edge.knowledge.items import Item
from edge.knowledge.mentions import Mention, Names
from edge.knowledge.vectors import embed_texts


class KnowledgeBase:
    """Items of several sources behind one hybrid index. Items outside their dates are never returned."""

    def __init__(self, items: Sequence[Item], index: ExampleIndex, names: Mapping[str, Names]) -> None:
        self._items = {item.id: item for item in items}
        self._index = index
        self._names = names

    def item(self, item_id: str, today: date) -> Item | None:
        """Return a valid item, None if there is none of this id."""
        item = self._items.get(item_id)
        return item if item is not None and item.is_valid(today) else None

    def items(self, today: date) -> tuple[Item, ...]:
        return tuple(item for item in self._items.values() if item.is_valid(today))

    def search(self, text: str, vector: NDArray[np.float32], today: date) -> list[Match]:
        """Return items that may answer the question, best first; keys are item ids."""
        return [match for match in self._index.search(text, vector) if self.item(match.key, today) is not None]

    def known_share(self, text: str) -> float:
        return self._index.known_share(text)

    def mention(self, text: str, source: str, today: date) -> Mention | None:
        """Return what items of a source the text names, if any."""
        names = self._names.get(source)
        found = names.find(text) if names is not None else None
        if found is None:
            return None
        valid = tuple(item for item in found.items if item.is_valid(today))
        return replace(found, items=valid) if valid else None


async def open_knowledge(
    items: Sequence[Item], mentions: Mapping[str, str], embedder: Embedder, *, tenant: str, cache: Path | None
) -> KnowledgeBase:
    """Index items. `mentions` maps the sources whose items have names to what such an item is called."""
    # Items with names are found by name; their texts would only crowd out the questions about the others.
    asked = [item for item in items if item.source not in mentions or item.questions]
    examples = [Example(key=item.id, text=text) for item in asked for text in _texts(item)]
    vectors = await embed_texts([example.text for example in examples], embedder, tenant=tenant, cache=cache)
    names = {
        source: Names([item for item in items if item.source == source], called) for source, called in mentions.items()
    }
    return KnowledgeBase(items, ExampleIndex(examples, vectors), names)


def _texts(item: Item) -> tuple[str, ...]:
    return (*item.questions, item.title, *item.aliases, item.answer)
