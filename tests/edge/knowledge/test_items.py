"""Knowledge files are read whole or refused with their line."""

import json
from datetime import date
from pathlib import Path

import pytest

from edge.knowledge.errors import KnowledgeInvalidError
from edge.knowledge.items import load_items

ROW = {"id": "a", "version": 2, "title": "A", "answer": "It is A.", "price": 5, "valid_until": "2026-12-31"}


def test_the_three_formats_say_the_same(tmp_path: Path) -> None:
    """CSV, JSON lines and YAML give equal items."""
    (tmp_path / "a.csv").write_text("id,version,title,answer,price,valid_until\na,2,A,It is A.,5,2026-12-31\n")
    (tmp_path / "a.jsonl").write_text(json.dumps(ROW) + "\n\n")
    (tmp_path / "a.yaml").write_text(
        "items:\n- {id: a, version: 2, title: A, answer: It is A., price: 5, valid_until: 2026-12-31}\n"
    )
    one, two, three = (load_items(tmp_path / name, "s") for name in ("a.csv", "a.jsonl", "a.yaml"))
    assert one == two == three
    assert one[0].attributes["price"] == "5"


def test_an_item_is_valid_on_its_first_and_last_day(tmp_path: Path) -> None:
    """Dates are inclusive."""
    path = tmp_path / "a.csv"
    path.write_text("id,version,title,answer,valid_from,valid_until\na,1,A,B,2026-02-01,2026-02-03\n")
    (item,) = load_items(path, "s")
    days = [date(2026, 1, 31), date(2026, 2, 1), date(2026, 2, 3), date(2026, 2, 4)]
    assert [item.is_valid(day) for day in days] == [False, True, True, False]


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.csv", "id,version,title,answer\na,1,A\n", 2),
        ("a.csv", "id,version,title,answer\na,1,A,B\na,1,A,B\n", 3),
        ("a.csv", "id,version,title,answer\na,x,A,B\n", 2),
        ("a.csv", "id,version,title,answer\na,1,,B\n", 2),
        ("a.csv", "", 1),
        ("a.csv", 'id,version,title,answer\na,1,A,"B\n', 1),
        ("a.jsonl", '{"id": 1}\n', 1),
        ("a.jsonl", "not json\n", 1),
        ("a.jsonl", "[1]\n", 1),
        ("a.yaml", "items: {a: 1}\n", 1),
        ("a.yaml", "items:\n- {id: a, version: 1, title: A, answer: B, valid_from: soon}\n", 2),
        ("a.yaml", "items:\n- {id: a, version: 1, title: A, answer: B, attributes: [1]}\n", 2),
        ("a.yaml", "items:\n- text\n", 2),
        ("a.yaml", ": :", 1),
        ("a.txt", "x", 1),
    ],
)
def test_a_broken_file_names_its_line(tmp_path: Path, name: str, text: str, line: int) -> None:
    """Operators are told where to look."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(KnowledgeInvalidError) as raised:
        load_items(path, "s")
    assert raised.value.line == line


def test_a_missing_file_and_bytes_are_problems(tmp_path: Path) -> None:
    """Neither is a crash."""
    with pytest.raises(KnowledgeInvalidError):
        load_items(tmp_path / "none.csv", "s")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(KnowledgeInvalidError):
        load_items(tmp_path / "b.csv", "s")
