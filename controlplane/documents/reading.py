"""From the files of a request to entries, each under its key. Pure; every mistake is listed, none hides another."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from contract.documents import RegionDocument, TenantDocument
from contract.documents_shape import CheckedDocument, check_shape
from contract.documents_source import DocumentProblem, read_documents
from controlplane.documents.model import REGION, DocumentKey, Entry

NEW = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """A file as the operator has it."""

    path: PurePath
    content: bytes


def read_files(files: Sequence[SourceFile]) -> tuple[dict[DocumentKey, Entry], list[DocumentProblem]]:
    """The documents of all files by key."""
    checked: list[CheckedDocument] = []
    problems: list[DocumentProblem] = []
    for file in files:
        sources, found = read_documents(file.path, file.content)
        problems += found
        for source in sources:
            document, found = check_shape(source)
            problems += found
            if document is not None:
                checked.append(CheckedDocument(source=source, document=document))
    entries: dict[DocumentKey, Entry] = {}
    for entry in checked:
        key = _key(entry, checked)
        if key is None:
            message = "names no tenant; add `tenant`, or put it into the folder of one Tenant document"
            problems.append(entry.source.problem(("metadata",), message))
        elif key in entries:
            problems.append(entry.source.problem(("metadata", "name"), f"a second {key.kind} named {key.name!r}"))
        else:
            entries[key] = Entry(key=key, revision=NEW, yaml=entry.source.text, file=str(entry.source.path), read=entry)
    return entries, problems


def _key(entry: CheckedDocument, among: Iterable[CheckedDocument]) -> DocumentKey | None:
    document = entry.document
    if isinstance(document, RegionDocument):
        return DocumentKey(kind=REGION, tenant="", name=document.metadata.name)
    if isinstance(document, TenantDocument):
        return DocumentKey(kind=document.kind, tenant=document.metadata.name, name=document.metadata.name)
    tenant = document.metadata.tenant or _tenant_of_folder(entry.source.path.parent, among)
    return None if tenant is None else DocumentKey(kind=document.kind, tenant=tenant, name=document.metadata.name)


def _tenant_of_folder(folder: PurePath, among: Iterable[CheckedDocument]) -> str | None:
    names = [
        entry.document.metadata.name
        for entry in among
        if isinstance(entry.document, TenantDocument) and entry.source.path.parent == folder
    ]
    return names[0] if len(names) == 1 else None
