"""Items are found by question and by name, misheard or not, never outside their dates."""

from collections.abc import Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.call.ports import Priority, Purpose
from edge.knowledge.base import open_knowledge
from edge.knowledge.examples import Example, ExampleIndex
from edge.knowledge.items import Item, load_items
from edge.knowledge.mentions import SURE, names_of
from edge.knowledge.vectors import embed_texts
from edge.knowledge.words import rough, sound, stem, words

PRODUCTS = Path(__file__).parents[3] / "edge/tenants/volt-electronics/knowledge/products.csv"
TODAY = date(2026, 11, 24)
PURPOSE = Purpose(tenant="t", call_id="c", priority=Priority.LIVE, budget_s=1.0)


class LetterVectors:
    """Counts letters: texts of the same letters are near. Enough to test what does not depend on meaning."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> NDArray[np.float32]:
        del purpose
        self.asked += texts
        rows = [[text.lower().count(chr(letter)) + 0.01 for letter in range(97, 123)] for text in texts]
        vectors = np.array(rows, dtype=np.float32)
        unit: NDArray[np.float32] = vectors / np.sqrt((vectors**2).sum(axis=1, keepdims=True))
        return unit


def _item(name: str, *, valid_from: date | None = None, valid_until: date | None = None) -> Item:
    return Item(
        id=name,
        version=1,
        title=f"about {name}",
        source="s",
        answer=f"It is {name}.",
        questions=(name,),
        valid_from=valid_from,
        valid_until=valid_until,
    )


@pytest.mark.parametrize(
    ("heard", "item"),
    [
        ("how much are the AeroBuds", "aerobuds"),
        ("how much are the aero buds pro", "aerobuds-pro"),
        ("the arrow buds pro please", "aerobuds-pro"),
        ("what does the crisp hair cost", "crispair"),
        ("the fifty-five inch television", "lumina-55"),
        ("the 43 inch tv", "lumina-43"),
        ("a robo vac", "robovac-2"),
        ("the orbit nine plus", "orbit-9-plus"),
        ("novabook 15", "novabook-15"),
        ("the pulse many", "pulse-mini"),
        ("a robo back", "robovac-2"),
        ("the door card", "doorguard"),
        ("the temple watch", "tempo-watch"),
    ],
)
def test_names_are_found_as_they_are_heard(heard: str, item: str) -> None:
    """Split, misspelt and spelt-out names lead to their item."""
    mention = names_of(load_items(PRODUCTS, "products"), "the product").find(heard)
    assert mention is not None
    assert [found.id for found in mention.items] == [item]
    assert mention.certainty >= SURE


@pytest.mark.parametrize(
    "heard", ["where is my order", "do you sell washing machines", "", "the the the", "yes", "!!!"]
)
def test_other_words_are_no_names(heard: str) -> None:
    """Ordinary words do not become products."""
    mention = names_of(load_items(PRODUCTS, "products"), "the product").find(heard)
    assert mention is None or mention.certainty < SURE


def test_a_shared_name_is_ambiguous() -> None:
    """ "Headphones" names both models; the name is masked in the question."""
    mention = names_of(load_items(PRODUCTS, "products"), "the product").find("what do the headphones cost")
    assert mention is not None
    assert {item.id for item in mention.items} == {"soundwave-300", "soundwave-500"}
    assert mention.masked == "what do the product cost"


async def test_items_outside_their_dates_are_never_returned() -> None:
    """Expired and future items stay silent, by search and by id."""
    items = [_item("old", valid_until=date(2026, 1, 1)), _item("new", valid_from=date(2027, 1, 1)), _item("now")]
    embedder = LetterVectors()
    base = await open_knowledge(items, {}, embedder, tenant="t", cache=None)
    vector = (await embedder.embed(["old new now"], PURPOSE))[0]
    assert [match.key for match in base.search("old new now", vector, TODAY)] == ["now"]
    assert base.item("old", TODAY) is None
    assert [item.id for item in base.items(TODAY)] == ["now"]


async def test_vectors_are_computed_once(tmp_path: Path) -> None:
    """A second start reads them from disk; changed texts are computed anew; a broken file is too."""
    first, second = LetterVectors(), LetterVectors()
    made = await embed_texts(["a b", "c d"], first, tenant="t", cache=tmp_path)
    read = await embed_texts(["a b", "c d"], second, tenant="t", cache=tmp_path)
    assert np.array_equal(made, read)
    assert len(second.asked) == 1
    await embed_texts(["a b", "c e"], second, tenant="t", cache=tmp_path)
    assert second.asked[-2:] == ["a b", "c e"]


def test_a_misheard_word_counts_as_the_known_one() -> None:
    """ "Cart" is read as "card", which is known; a short or foreign word is not."""
    index = ExampleIndex([Example(key="a", text="tap the card")], np.ones((1, 1), dtype=np.float32))
    vector = np.zeros(1, dtype=np.float32)
    assert index.search("my cart", vector)[0].lexical > 0
    assert 0 < index.known_share("cart") < index.known_share("card")
    assert index.known_share("bitcoin") == 0


def test_an_empty_index_finds_nothing() -> None:
    """An agent without knowledge is possible."""
    index = ExampleIndex([], np.zeros((0, 4), dtype=np.float32))
    assert index.search("anything", np.zeros(4, dtype=np.float32)) == []
    assert index.known_share("anything") == 0.0


@given(st.text(max_size=80))
def test_any_words_can_be_searched(text: str) -> None:
    """Quotes, operators and other scripts are only words to the full-text search."""
    index = ExampleIndex(
        [Example(key="a", text="opening hours"), Example(key="b", text="lost card")], np.eye(2, dtype=np.float32)
    )
    matches = index.search(text, np.array([1.0, 0.0], dtype=np.float32))
    assert matches[0].key == "a" or matches[0].lexical > 0
    assert all(0.0 <= match.lexical <= 1.0 for match in matches)


@given(st.text(max_size=40))
def test_any_word_has_a_stem_and_a_sound(text: str) -> None:
    """Neither fails nor grows."""
    for word in words(text):
        assert len(stem(word)) <= len(word) + 1
        sound(word)
        rough(word)
