"""The bench's catalogue is the same in every run, and made of items that nodes take."""

import json
from datetime import UTC, datetime

from bench.catalogue import SOURCE, Catalogue, questions
from contract.knowledge_items import parse_items


def test_a_seed_makes_the_same_catalogue() -> None:
    """Items, changes, weeks and questions; another seed makes others."""
    first, second, other = Catalogue(items=300), Catalogue(items=300), Catalogue(items=300, seed=2)
    assert list(first.lines()) == list(second.lines()) != list(other.lines())
    assert first.changed(3) == second.changed(3) != first.changed(4)
    assert first.week(1, 60) == second.week(1, 60) != first.week(2, 60)
    assert questions(first, 50) == questions(second, 50)


def test_items_are_items() -> None:
    """With titles of their own, some outside their dates."""
    catalogue = Catalogue(items=1000)
    items = parse_items("\n".join(catalogue.lines()), "jsonl", SOURCE)
    assert items == tuple(catalogue.all_items)
    assert len({item.title for item in items}) == 1000
    today = datetime.now(UTC).date()
    assert 20 < sum(not item.is_valid(today) for item in items) < 100


def test_changes_change_something() -> None:
    """The spoken answer, of items that hold; a week has a few new ones, too."""
    catalogue = Catalogue(items=300)
    by_id = {item.id: item for item in catalogue.all_items}
    for number in range(20):
        item_id, line, answer = catalogue.changed(number)
        assert json.loads(line)["answer"] == answer != by_id[item_id].answer
        assert by_id[item_id].is_valid(datetime.now(UTC).date())
    week = parse_items("\n".join(catalogue.week(1, 60)), "jsonl", SOURCE)
    assert len(week) == 60
    assert sum(item.id not in by_id for item in week) == 3
