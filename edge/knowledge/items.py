"""What an agent knows: items with an answer, read from CSV, JSON lines or YAML files."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import yaml

from edge.knowledge.errors import KnowledgeInvalidError

_KNOWN = frozenset({"id", "version", "title", "aliases", "questions", "answer", "group", "valid_from", "valid_until"})


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


def load_items(path: Path, source: str) -> tuple[Item, ...]:
    """Return the items of a file, by its suffix. Raises KnowledgeInvalidError naming file and line."""
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".yaml": _yaml_rows}
    reader = readers.get(path.suffix)
    if reader is None:
        raise KnowledgeInvalidError(path, 1, f"{path.suffix!r} is not supported; one of {', '.join(sorted(readers))}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KnowledgeInvalidError(path, 1, f"cannot be read: {error}") from error
    items: dict[str, Item] = {}
    for line, row in reader(path, text):
        item = _item(path, line, row, source)
        if item.id in items:
            raise KnowledgeInvalidError(path, line, f"a second item with id {item.id!r}")
        items[item.id] = item
    if not items:
        raise KnowledgeInvalidError(path, 1, "holds no items")
    return tuple(items.values())


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    reader = csv.DictReader(text.splitlines(), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise KnowledgeInvalidError(path, reader.line_num, "has not as many fields as the header")
            yield reader.line_num, {key.strip(): value.strip() for key, value in row.items()}
    except csv.Error as error:
        raise KnowledgeInvalidError(path, reader.line_num, str(error)) from error


def _jsonl_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise KnowledgeInvalidError(path, number, f"is not JSON: {error.msg}") from error
        if not isinstance(row, dict):
            raise KnowledgeInvalidError(path, number, "must be an object")
        yield number, row


def _yaml_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        rows = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise KnowledgeInvalidError(path, 1, f"is not YAML: {error}") from error
    entries = rows.get("items") if isinstance(rows, dict) else None
    if not isinstance(entries, list) or not isinstance(node, yaml.MappingNode):
        raise KnowledgeInvalidError(path, 1, "must be a mapping with `items:`, a list")
    nodes = next(value.value for key, value in node.value if key.value == "items")
    for entry_node, row in zip(nodes, entries, strict=True):
        line = entry_node.start_mark.line + 1
        if not isinstance(row, dict):
            raise KnowledgeInvalidError(path, line, "an item must be a mapping")
        yield line, row


def _item(path: Path, line: int, row: Mapping[str, object], source: str) -> Item:
    nested = row.get("attributes", {})
    if not isinstance(nested, Mapping):
        raise KnowledgeInvalidError(path, line, "`attributes` must be a mapping")
    extra = {**{key: value for key, value in row.items() if key not in _KNOWN and key != "attributes"}, **nested}
    version = _text(path, line, row, "version")
    if not version.isdigit() or int(version) < 1:
        raise KnowledgeInvalidError(path, line, f"version must be a whole number from 1, not {version!r}")
    attributes = {str(key): _plain(value) for key, value in extra.items()}
    title = _text(path, line, row, "title")
    answer = _text(path, line, row, "answer")
    return Item(
        id=_text(path, line, row, "id"),
        version=int(version),
        title=title,
        source=source,
        answer=answer,
        aliases=_texts(row.get("aliases")),
        questions=_texts(row.get("questions")),
        group=_plain(row.get("group")) or None,
        attributes={**attributes, "title": title, "description": answer},
        valid_from=_date(path, line, row, "valid_from"),
        valid_until=_date(path, line, row, "valid_until"),
    )


def _text(path: Path, line: int, row: Mapping[str, object], key: str) -> str:
    value = _plain(row.get(key))
    if not value:
        raise KnowledgeInvalidError(path, line, f"`{key}` is missing")
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


def _date(path: Path, line: int, row: Mapping[str, object], key: str) -> date | None:
    value = _plain(row.get(key))
    if not value:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise KnowledgeInvalidError(path, line, f"`{key}` must be a date such as 2026-12-31, not {value!r}") from error
