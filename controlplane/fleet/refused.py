"""Which documents hold up the bundle of a region: its nodes name them when they refuse. Pure."""

from collections.abc import Callable, Collection, Sequence

from contract import admin_pb2 as pb
from contract.uplink_pb2 import REFUSAL_DOCUMENT, SUBJECT_BUNDLE, Ack
from controlplane.documents.model import REGION, TENANT
from controlplane.fleet.states import NodeState


def refused_documents(
    nodes: Sequence[NodeState], served: Collection[str], owners: Callable[[str, str], Collection[str]]
) -> list[pb.RefusedDocument]:
    """The documents that nodes of a region refuse. A node may leave the tenant out: `owners` tells who has such a
    document, newest change first."""
    refusals: dict[tuple[str, str, str], list[str]] = {}
    for node in nodes:
        if node.refused is not None and _is_of_document(node.refused):
            about = (node.refused.document_kind, node.refused.tenant, node.refused.document_name)
            refusals.setdefault(about, []).append(node.node)
    heard = sum(not node.is_silent for node in nodes)
    return [
        _refused(kind, [tenant] if tenant else [own for own in owners(kind, name) if own in served], name, by, heard)
        for (kind, tenant, name), by in refusals.items()
    ]


def _is_of_document(ack: Ack) -> bool:
    return ack.subject == SUBJECT_BUNDLE and ack.refusal == REFUSAL_DOCUMENT and bool(ack.document_name)


def _refused(kind: str, tenants: list[str], name: str, nodes: list[str], heard: int) -> pb.RefusedDocument:
    if kind in (REGION, TENANT):
        tenants = [name if kind == TENANT else ""]
    candidates = [pb.DocumentRef(kind=kind, tenant=tenant, name=name) for tenant in tenants]
    document = candidates[0] if len(candidates) == 1 else pb.DocumentRef(kind=kind, name=name)
    return pb.RefusedDocument(
        document=document,
        candidates=candidates if len(candidates) > 1 else [],
        nodes=nodes,
        by_all=len(nodes) >= heard,
    )
