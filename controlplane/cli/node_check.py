"""Asks who serves documents whether it could, before they are sent: one that no node can serve would hold up the
bundle of its whole region, with all its tenants.

Who is asked plugs in as an entry point, `check(tenant, documents) -> problems`, because the hub knows no more of nodes
than the contract. Without any nothing is checked.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import PurePath

from contract import admin_pb2 as pb
from contract.documents_shape import CheckedDocument
from contract.documents_source import DocumentProblem
from controlplane.documents.model import AGENT, REGION, DocumentKey, Entry
from controlplane.documents.reading import SourceFile, read_files

ENTRY_POINT_GROUP = "borough.document_checks"

Check = Callable[[str, Sequence[CheckedDocument]], Iterable[DocumentProblem]]
Stored = Callable[[str], Sequence[pb.StoredDocument]]


def node_problems(documents: Iterable[pb.SourceDocument], stored: Stored) -> list[DocumentProblem]:
    """What keeps nodes from serving the tenants of these documents, together with what the hub has `stored` of them.

    Nothing for files whose shape is wrong: the hub says that better.
    """
    checks: list[Check] = [entry.load() for entry in entry_points(group=ENTRY_POINT_GROUP)]
    entries, problems = read_files(
        [SourceFile(path=PurePath(document.file), content=document.yaml) for document in documents]
    )
    if problems or not checks:
        return []
    new = {key: entry.read for key, entry in entries.items() if entry.read is not None and key.kind != REGION}
    return list(_problems(new, checks, stored))


def _problems(
    new: Mapping[DocumentKey, CheckedDocument], checks: Sequence[Check], stored: Stored
) -> Iterator[DocumentProblem]:
    for tenant in sorted({key.tenant for key in new}):
        whole = _stored(stored(tenant)) | {key: read for key, read in new.items() if key.tenant == tenant}
        # A tenant without an agent is in no bundle.
        if any(key.kind == AGENT for key in whole):
            for check in checks:
                yield from check(tenant, list(whole.values()))


def _stored(documents: Iterable[pb.StoredDocument]) -> dict[DocumentKey, CheckedDocument]:
    found: dict[DocumentKey, CheckedDocument] = {}
    for stored in documents:
        ref = stored.document
        key = DocumentKey(kind=ref.kind, tenant=ref.tenant, name=ref.name)
        checked = Entry(key=key, revision=ref.revision, yaml=stored.yaml.decode(), file=f"stored:{key}").checked()
        if checked is not None:
            found[key] = checked
    return found
