"""What the hub keeps of documents. Pure."""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from pathlib import PurePath

from contract.documents_shape import CheckedDocument, check_shape
from contract.documents_source import DocumentProblem, read_documents

REGION = "Region"
TENANT = "Tenant"
AGENT = "Agent"
KINDS = ("Region", "Tenant", "Policy", "Flow", "Agent")
# Parsing a long agent takes 15 ms; every apply looks at all documents of the tenants it touches.
PARSED_DOCUMENTS = 4096


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class DocumentKey:
    """Which document. A Region has no tenant; a Tenant is its own."""

    kind: str
    tenant: str
    name: str

    def __str__(self) -> str:
        return (
            f"{self.kind}/{self.name}" if self.tenant in ("", self.name) else f"{self.kind}/{self.tenant}/{self.name}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A document as it holds: its revision, its text, and the file that errors name. `read` is what was read from that
    file; without it the text alone is read."""

    key: DocumentKey
    revision: int
    yaml: str
    file: str
    read: CheckedDocument | None = None

    def checked(self) -> CheckedDocument | None:
        """The document, or None if it is not valid (any more)."""
        if self.read is not None:
            return self.read
        parsed, _ = _parse(self.yaml)
        return None if parsed is None else replace(parsed, source=replace(parsed.source, path=PurePath(self.file)))

    def problems(self) -> list[DocumentProblem]:
        """What is wrong with its shape."""
        if self.read is not None:
            return []
        return [replace(problem, path=PurePath(self.file)) for problem in _parse(self.yaml)[1]]


@lru_cache(maxsize=PARSED_DOCUMENTS)
def _parse(yaml: str) -> tuple[CheckedDocument | None, tuple[DocumentProblem, ...]]:
    sources, problems = read_documents(PurePath(), yaml.encode())
    if len(sources) != 1:
        return None, tuple(problems)
    document, problems = check_shape(sources[0])
    return (CheckedDocument(source=sources[0], document=document) if document else None), tuple(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One stored revision; `is_deleted` ones have no text."""

    key: DocumentKey
    revision: int
    yaml: str
    applied_at_ms: int
    applied_by: str
    is_deleted: bool


class ChangeKind(StrEnum):
    """What an apply does to a document."""

    UNCHANGED = "unchanged"
    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One document's change. `diff` is unified, of the YAML."""

    key: DocumentKey
    kind: ChangeKind
    revision: int
    diff: str
    yaml: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Where a tenant is looser than a law or a region allows."""

    is_error: bool
    key: DocumentKey
    field: str
    rule: str
    source: str
    message: str
    suggestion: str

    def __str__(self) -> str:
        return f"{self.key}: {self.field}: {self.message} [{self.rule}: {self.source}; try {self.suggestion}]"
