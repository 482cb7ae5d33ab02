"""An item is the same after a message and after a line of JSON, and no text of items is a crash."""

from datetime import date

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.downlink_pb2 import KnowledgeItem
from contract.knowledge_items import (
    FORMATS,
    Item,
    ItemError,
    as_json_line,
    as_message,
    from_message,
    parse_items,
    texts_of,
)
from contract.knowledge_vectors import quantised

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"], exclude_characters="|"), min_size=1, max_size=12)
ITEMS = st.builds(
    Item,
    id=WORDS,
    version=st.integers(min_value=1, max_value=2**32 - 1),
    title=WORDS,
    source=st.just("s"),
    answer=WORDS,
    aliases=st.lists(WORDS, max_size=3).map(tuple),
    questions=st.lists(WORDS, max_size=3).map(tuple),
    group=st.none() | WORDS,
    attributes=st.dictionaries(WORDS, WORDS, max_size=3),
    valid_from=st.none() | st.dates(),
    valid_until=st.none() | st.dates(),
)


def whole(item: Item) -> Item:
    """The item with the attributes that every item has of itself."""
    return from_message(as_message(item))


@given(ITEMS)
def test_an_item_survives_message_and_line(item: Item) -> None:
    """Everything but the attributes that stand in other fields is as it was."""
    again = whole(item)
    assert {**item.attributes, "title": item.title, "description": item.answer} == again.attributes
    assert from_message(KnowledgeItem.FromString(as_message(again).SerializeToString())) == again
    assert parse_items(as_json_line(again), "jsonl", "s") == (again,)


@given(ITEMS, st.dates())
def test_validity_is_by_both_days(item: Item, today: date) -> None:
    """As a comparison with either limit says."""
    after = item.valid_from is None or item.valid_from <= today
    before = item.valid_until is None or item.valid_until >= today
    assert item.is_valid(today) == (after and before)


@given(st.text(max_size=200), st.sampled_from(FORMATS))
def test_any_text_is_items_or_an_error_with_its_line(text: str, kind: str) -> None:
    """Whatever is in a file."""
    try:
        assert parse_items(text, kind, "s")
    except ItemError as error:
        assert error.line >= 1  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("field", ["source", "id", "version", "title", "answer"])
def test_a_message_without_something_needed_is_refused(field: str) -> None:
    """As a delta from a broken hub may hold."""
    message = as_message(Item(id="a", version=1, title="A", source="s", answer="It is A."))
    message.ClearField(field)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="lacks"):
        from_message(message)


def test_an_entry_of_a_catalogue_is_one_text() -> None:
    """Questions make every wording count."""
    plain = Item(id="a", version=1, title="A", source="s", answer="It is A.", aliases=("B",))
    asked = Item(id="a", version=1, title="A", source="s", answer="It is A.", aliases=("B",), questions=("what is A",))
    assert texts_of(plain) == ("A. It is A.",)
    assert texts_of(asked) == ("what is A", "A", "B", "It is A.")


def test_quantised_vectors_are_near_the_real_ones() -> None:
    """Cosines differ by less than a thousandth; a vector of nothing stays one."""
    vectors = np.random.default_rng(1).normal(size=(50, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[0] = 0
    for vector, packed in zip(vectors, quantised(vectors), strict=True):
        back = np.frombuffer(packed.components, dtype=np.int8) * packed.scale
        assert np.abs(back @ vectors.T - vector @ vectors.T).max() < 2e-3
