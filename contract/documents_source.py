"""From the text of a YAML file to its documents, with the line of every key, so that errors can name it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath

import yaml

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentProblem:
    """One mistake in a document: where it is, what is wrong, and what would be right."""

    path: PurePath
    line: int
    key: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"{self.path}:{self.line}: {self.key}: {self.message}{hint}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDocument:
    """One YAML document with the line of each of its keys and values. `text` is the document alone, comments kept."""

    path: PurePath
    value: Mapping[str, object]
    lines: Mapping[KeyPath, int]
    text: str

    def line(self, key: KeyPath) -> int:
        """Return the line of the key, or of the nearest enclosing one."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def problem(self, key: KeyPath, message: str, hint: str = "") -> DocumentProblem:
        """A mistake at a key."""
        name = ".".join(str(part) for part in key) or "document"
        return DocumentProblem(path=self.path, line=self.line(key), key=name, message=message, hint=hint)


def read_documents(path: PurePath, content: bytes) -> tuple[list[SourceDocument], list[DocumentProblem]]:
    """The documents of a file, or what is wrong: text that is not YAML, a document that is not a mapping, a key given
    twice, an alias."""
    try:
        text = content.decode("utf-8")
        texts, aliases = _split(text)
        if aliases:
            # An alias can make a document endless or huge; nothing here is long enough to need one.
            return [], [_problem(path, aliases[0], "aliases (*name) are not allowed")]
        nodes = [
            (node, part)
            for node, part in zip(yaml.compose_all(text, Loader=yaml.CSafeLoader), texts, strict=True)
            if node is not None
        ]
    except yaml.MarkedYAMLError as error:
        return [], [_problem(path, _line_of(error), error.problem or "is not YAML")]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return [], [_problem(path, 1, f"is not YAML text: {error}")]
    if not nodes:
        return [], [_problem(path, 1, "is empty")]
    documents: list[SourceDocument] = []
    problems: list[DocumentProblem] = []
    for node, part in nodes:
        document, found = _document(path, node, part)
        documents += [document] if document is not None else []
        problems += found
    return ([], problems) if problems else (documents, [])


def _split(text: str) -> tuple[list[str], list[int]]:
    """The text of each document, and the lines of aliases."""
    starts: list[tuple[int, int]] = []
    aliases: list[int] = []
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        start, end = event.start_mark, event.end_mark
        assert start is not None
        assert end is not None
        if isinstance(event, yaml.AliasEvent):
            aliases.append(start.line + 1)
        elif isinstance(event, yaml.DocumentStartEvent):
            starts.append((start.index, end.index) if event.explicit else (0, 0))
    ends = [*(before for before, _ in starts[1:]), len(text)]
    parts = [text[start:end].strip("\n") + "\n" for (_, start), end in zip(starts, ends, strict=False)]
    return parts, aliases


def _document(path: PurePath, node: yaml.Node, text: str) -> tuple[SourceDocument | None, list[DocumentProblem]]:
    if not isinstance(node, yaml.MappingNode):
        return None, [_problem(path, node.start_mark.line + 1, "a document must be a mapping")]
    lines: dict[KeyPath, int] = {}
    problems: list[DocumentProblem] = []
    _walk(path, node, (), lines, problems)
    if problems:
        return None, problems
    try:
        value = yaml.SafeLoader("").construct_document(node)
    except yaml.MarkedYAMLError as error:
        return None, [_problem(path, _line_of(error), error.problem or "is not plain YAML")]
    except ValueError as error:  # a date such as 2026-13-45
        return None, [_problem(path, node.start_mark.line + 1, str(error))]
    return SourceDocument(path=path, value=value, lines=lines, text=text), []


def _walk(
    path: PurePath, node: yaml.Node, key: KeyPath, lines: dict[KeyPath, int], problems: list[DocumentProblem]
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


def _line_of(error: yaml.MarkedYAMLError) -> int:
    return error.problem_mark.line + 1 if error.problem_mark is not None else 1


def _problem(path: PurePath, line: int, message: str) -> DocumentProblem:
    return DocumentProblem(path=path, line=line, key=path.name, message=message)
