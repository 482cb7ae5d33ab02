"""Items of knowledge: what they are, and how they are read from CSV, JSON lines or YAML. Pure: text in, items out.

Both sides of the border need it: nodes read the files beside their documents, the hub builds snapshots from the same.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

import yaml

from contract.downlink_pb2 import ItemText, KnowledgeItem

FORMATS = ("csv", "jsonl", "yaml")
_KNOWN = frozenset({"id", "version", "title", "aliases", "questions", "answer", "group", "valid_from", "valid_until"})
# Attributes that every item has of itself.
_OWN = ("title", "description")
_LARGEST_VERSION = 2**32 - 1

Row = Mapping[str, object]


class ItemError(ValueError):
    """A text of items is wrong at `line` (from 1)."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(f"{line}: {message}")
        self.line = line
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that is known. `answer` is spoken as it stands; `aliases` are other names of the title, `questions`
    ways to ask for it; `group` joins items that answer the same question for different cases (a day, a fee).

    `valid_from` and `valid_until` are dates, both included; outside them the item is never used.
    """

    id: str
    version: int
    title: str
    source: str
    answer: str
    aliases: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    group: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    valid_from: date | None = None
    valid_until: date | None = None

    def is_valid(self, today: date) -> bool:
        return (self.valid_from is None or self.valid_from <= today) and (
            self.valid_until is None or today <= self.valid_until
        )


def parse_items(text: str, kind: str, source: str) -> tuple[Item, ...]:
    """Return the items of a text in one of FORMATS. Raises ItemError naming the line."""
    rows = {"csv": _csv_rows, "jsonl": _jsonl_rows, "yaml": _yaml_rows}[kind]
    return items_of(rows(text), source)


def items_of(rows: Iterator[tuple[int, Row]], source: str) -> tuple[Item, ...]:
    """Return the items of rows with their lines. Raises ItemError if one is wrong, there twice, or none is there."""
    items: dict[str, Item] = {}
    for line, row in rows:
        item = item_of(line, row, source)
        if item.id in items:
            raise ItemError(line, f"a second item with id {item.id!r}")
        items[item.id] = item
    if not items:
        raise ItemError(1, "holds no items")
    return tuple(items.values())


def texts_of(item: Item) -> tuple[str, ...]:
    """Return the texts by which an item is found, each of which gets a vector.

    Where questions were written, every wording counts for itself. An entry of a catalogue is one text: a vector each
    for its title and aliases would only repeat what the search by name does better.
    """
    if item.questions:
        return (*item.questions, item.title, *item.aliases, item.answer)
    return (f"{item.title}. {item.answer}",)


def as_message(item: Item, texts: Sequence[ItemText] = ()) -> KnowledgeItem:
    """Return the item as it crosses the border."""
    return KnowledgeItem(
        source=item.source,
        id=item.id,
        version=item.version,
        title=item.title,
        answer=item.answer,
        aliases=item.aliases,
        questions=item.questions,
        group=item.group or "",
        attributes={key: value for key, value in item.attributes.items() if key not in _OWN},
        valid_from=item.valid_from.isoformat() if item.valid_from is not None else "",
        valid_until=item.valid_until.isoformat() if item.valid_until is not None else "",
        texts=texts,
    )


def from_message(message: KnowledgeItem) -> Item:
    """Return the item of a message. Raises ValueError if it lacks something or a date is none."""
    if not (message.source and message.id and message.version and message.title and message.answer):
        raise ValueError("an item lacks its source, id, version, title or answer")
    return Item(
        id=message.id,
        version=message.version,
        title=message.title,
        source=message.source,
        answer=message.answer,
        aliases=tuple(message.aliases),
        questions=tuple(message.questions),
        group=message.group or None,
        attributes=_attributes(message.attributes, message.title, message.answer),
        valid_from=date.fromisoformat(message.valid_from) if message.valid_from else None,
        valid_until=date.fromisoformat(message.valid_until) if message.valid_until else None,
    )


def as_json_line(item: Item) -> str:
    """Return the item as a line that `parse_items` reads back."""
    row: dict[str, object] = {"id": item.id, "version": item.version, "title": item.title, "answer": item.answer}
    row |= {name: list(texts) for name, texts in (("aliases", item.aliases), ("questions", item.questions)) if texts}
    row |= {"group": item.group} if item.group is not None else {}
    limits = (("valid_from", item.valid_from), ("valid_until", item.valid_until))
    row |= {name: day.isoformat() for name, day in limits if day is not None}
    row["attributes"] = {key: value for key, value in item.attributes.items() if key not in _OWN}
    return json.dumps(row, ensure_ascii=False)


def item_of(line: int, row: Row, source: str) -> Item:
    """Return the item that a row of any format says. Raises ItemError."""
    nested = row.get("attributes", {})
    if not isinstance(nested, Mapping):
        raise ItemError(line, "`attributes` must be a mapping")
    extra = {**{key: value for key, value in row.items() if key not in _KNOWN and key != "attributes"}, **nested}
    version = _text(line, row, "version")
    if not version.isdecimal() or not 1 <= int(version) <= _LARGEST_VERSION:
        raise ItemError(line, f"version must be a whole number from 1, not {version!r}")
    title = _text(line, row, "title")
    answer = _text(line, row, "answer")
    return Item(
        id=_text(line, row, "id"),
        version=int(version),
        title=title,
        source=source,
        answer=answer,
        aliases=_texts(row.get("aliases")),
        questions=_texts(row.get("questions")),
        group=_plain(row.get("group")) or None,
        attributes=_attributes({str(key): _plain(value) for key, value in extra.items()}, title, answer),
        valid_from=_date(line, row, "valid_from"),
        valid_until=_date(line, row, "valid_until"),
    )


def _attributes(attributes: Mapping[str, str], title: str, answer: str) -> dict[str, str]:
    return {**attributes, "title": title, "description": answer}


def _csv_rows(text: str) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise ItemError(reader.line_num, "has not as many fields as the header")
            yield reader.line_num, {key.strip(): value.strip() for key, value in row.items()}
    except csv.Error as error:
        raise ItemError(reader.line_num, str(error)) from error


def _jsonl_rows(text: str) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ItemError(number, f"is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ItemError(number, "must be an object")
        yield number, row


def _yaml_rows(text: str) -> Iterator[tuple[int, Row]]:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        rows = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ItemError(1, f"is not YAML: {error}") from error
    entries = rows.get("items") if isinstance(rows, dict) else None
    if not isinstance(entries, list) or not isinstance(node, yaml.MappingNode):
        raise ItemError(1, "must be a mapping with `items:`, a list")
    nodes = next(value.value for key, value in node.value if key.value == "items")
    for entry_node, row in zip(nodes, entries, strict=True):
        line = entry_node.start_mark.line + 1
        if not isinstance(row, dict):
            raise ItemError(line, "an item must be a mapping")
        yield line, row


def _text(line: int, row: Row, key: str) -> str:
    value = _plain(row.get(key))
    if not value:
        raise ItemError(line, f"`{key}` is missing")
    return value


def _texts(value: object) -> tuple[str, ...]:
    parts: Sequence[object] = value if isinstance(value, list) else str(value or "").split("|")
    return tuple(text for part in parts if (text := str(part).strip()))


def _plain(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).strip()


def _date(line: int, row: Row, key: str) -> date | None:
    value = _plain(row.get(key))
    if not value:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise ItemError(line, f"`{key}` must be a date such as 2026-12-31, not {value!r}") from error
