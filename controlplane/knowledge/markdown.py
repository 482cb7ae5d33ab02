"""Items from Markdown: a file is an item, or each of its second-level headings is. Pure.

Facts that are no text stand in front: between `---` lines on top of a file for all its items, or as `key: value` lines
right below a heading for that one.

    ## Returns
    aliases: send it back | refund
    valid_until: 2026-12-31

    You can return anything within thirty days.
"""

import re
from collections.abc import Iterator, Mapping

import yaml

from contract.knowledge_items import Item, ItemError, items_of

_HEADING = re.compile(r"^(#{1,2})\s+(.+?)\s*#*$")
_FACT = re.compile(r"^(version|aliases|questions|group|valid_from|valid_until)\s*:\s*(.+)$")
_FENCE = "---"
# What would be read out as signs.
_MARKS = (
    (re.compile(r"<!--.*?-->", re.DOTALL), ""),
    (re.compile(r"!\[[^\]]*\]\([^)]*\)"), ""),
    (re.compile(r"\[([^\]]+)\]\([^)]*\)"), r"\1"),
    (re.compile(r"^\s*(?:[-*+]|\d+\.)\s+", re.MULTILINE), ""),
    (re.compile(r"^\s*(?:#{1,6}|>)\s*", re.MULTILINE), ""),
    (re.compile(r"(\*\*|__|\*|`)(.+?)\1"), r"\2"),
)


def parse_markdown(text: str, name: str, source: str) -> tuple[Item, ...]:
    """Return the items of a file called `name` (without suffix). Raises ItemError naming the line."""
    facts, body, first_line = _front_matter(text)
    rows: list[tuple[int, Mapping[str, object]]] = []
    for line, title, lines in _sections(body, first_line):
        own, answer = _facts(lines)
        if answer:
            row_id = _slug(name) if not rows and title is None else f"{_slug(name)}-{_slug(title or '')}".strip("-")
            rows.append((line, {"version": 1, **facts, **own, "id": row_id, "title": title or name, "answer": answer}))
    return items_of(iter(rows), source)


def _front_matter(text: str) -> tuple[Mapping[str, object], list[str], int]:
    lines = text.split("\n")
    if lines[0].strip() != _FENCE or _FENCE not in [line.strip() for line in lines[1:]]:
        return {}, lines, 1
    end = [line.strip() for line in lines].index(_FENCE, 1)
    try:
        facts = yaml.safe_load("\n".join(lines[1:end])) or {}
    except yaml.YAMLError as error:
        raise ItemError(1, f"the facts on top are not YAML: {error}") from error
    if not isinstance(facts, dict):
        raise ItemError(1, "the facts on top must be `key: value` lines")
    return {str(key): value for key, value in facts.items()}, lines[end + 1 :], end + 2


def _sections(lines: list[str], first_line: int) -> Iterator[tuple[int, str | None, list[str]]]:
    """Yield line, title and lines of each item; a first-level heading is the title of what stands before the second
    level."""
    title: str | None = None
    start, collected = first_line, list[str]()
    for number, line in enumerate(lines, start=first_line):
        heading = _HEADING.match(line)
        if heading is None:
            collected.append(line)
            continue
        if any(one.strip() for one in collected):
            yield start, title, collected
        start, title, collected = number, heading[2], []
    yield start, title, collected


def _facts(lines: list[str]) -> tuple[dict[str, object], str]:
    facts: dict[str, object] = {}
    rest = list(lines)
    while rest and (not rest[0].strip() or _FACT.match(rest[0])):
        found = _FACT.match(rest.pop(0))
        if found is not None:
            facts[found[1]] = found[2].strip()
    return facts, _spoken("\n".join(rest))


def _spoken(text: str) -> str:
    for pattern, replacement in _MARKS:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
