"""Reads the items of an agent from the files beside its documents."""

from pathlib import Path

from contract.knowledge_items import FORMATS, Item, ItemError, parse_items
from edge.knowledge.errors import KnowledgeInvalidError

__all__ = ["Item", "load_items"]


def load_items(path: Path, source: str) -> tuple[Item, ...]:
    """Return the items of a file, by its suffix. Raises KnowledgeInvalidError naming file and line."""
    kind = path.suffix.removeprefix(".")
    if kind not in FORMATS:
        known = ", ".join(f".{one}" for one in FORMATS)
        raise KnowledgeInvalidError(path, 1, f"{path.suffix!r} is not supported; one of {known}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise KnowledgeInvalidError(path, 1, f"cannot be read: {error}") from error
    try:
        return parse_items(text, kind, source)
    except ItemError as error:
        raise KnowledgeInvalidError(path, error.line, error.message) from error
