"""Reads YAML and remembers the line of every key, so that errors can name it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from edge.conversation.errors import DocumentProblem, DocumentsInvalidError

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDocument:
    """One YAML document with the line of each of its keys and values."""

    path: Path
    value: Mapping[str, object]
    lines: Mapping[KeyPath, int]

    def line(self, key: KeyPath) -> int:
        """Return the line of the key, or of the nearest enclosing one."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)


def read_documents(path: Path) -> list[SourceDocument]:
    """Return the documents of a file. Raises DocumentsInvalidError for text that is not YAML, a document that is not
    a mapping, and a key given twice."""
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_aliases(path, text)
        nodes = [node for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if node is not None]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise DocumentsInvalidError([_problem(path, line, error.problem or "is not YAML")]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DocumentsInvalidError([_problem(path, 1, f"is not YAML text: {error}")]) from error
    except OSError as error:
        raise DocumentsInvalidError([_problem(path, 1, f"cannot be read: {error.strerror}")]) from error
    if not nodes:
        raise DocumentsInvalidError([_problem(path, 1, "is empty")])
    return [_document(path, node) for node in nodes]


def _refuse_aliases(path: Path, text: str) -> None:
    # An alias can make a document endless or huge; nothing here is long enough to need one.
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            line = event.start_mark.line + 1 if event.start_mark is not None else 1
            raise DocumentsInvalidError([_problem(path, line, "aliases (*name) are not allowed")])


def _document(path: Path, node: yaml.Node) -> SourceDocument:
    if not isinstance(node, yaml.MappingNode):
        raise DocumentsInvalidError([_problem(path, node.start_mark.line + 1, "a document must be a mapping")])
    lines: dict[KeyPath, int] = {}
    problems: list[DocumentProblem] = []
    _walk(path, node, (), lines, problems)
    if problems:
        raise DocumentsInvalidError(problems)
    try:
        value = yaml.SafeLoader("").construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise DocumentsInvalidError([_problem(path, line, error.problem or "is not plain YAML")]) from error
    return SourceDocument(path=path, value=value, lines=lines)


def _walk(
    path: Path, node: yaml.Node, key: KeyPath, lines: dict[KeyPath, int], problems: list[DocumentProblem]
) -> None:
    lines.setdefault(key, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name_node, value_node in node.value:
            name = str(name_node.value)
            line = name_node.start_mark.line + 1
            if name in seen:
                problems.append(DocumentProblem(path=path, line=line, key=name, message="is given twice"))
            seen.add(name)
            lines[*key, name] = line
            _walk(path, value_node, (*key, name), lines, problems)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(path, item, (*key, index), lines, problems)


def _problem(path: Path, line: int, message: str) -> DocumentProblem:
    return DocumentProblem(path=path, line=line, key=path.name, message=message)
