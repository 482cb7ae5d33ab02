"""From what an operator types to a document reference: `agent bank/line`, `tenants`, `region eu-central`."""

import click

from contract import admin_pb2 as pb
from controlplane.documents.model import KINDS, REGION, TENANT

_BY_WORD = {word: kind for kind in KINDS for word in (kind.lower(), f"{kind.lower()}s")} | {"policies": "Policy"}


def kind_of(word: str) -> str:
    """A kind by its name, in any case, one or many. Raises click's UsageError."""
    kind = _BY_WORD.get(word.lower())
    if kind is None:
        raise click.UsageError(f"{word!r} is not a kind of document; one of {', '.join(KINDS)}")
    return kind


def reference(word: str, name: str, revision: int = 0) -> pb.DocumentRef:
    """A document by kind and `tenant/name`. Raises click's UsageError."""
    kind = kind_of(word)
    if kind in (REGION, TENANT):
        return pb.DocumentRef(kind=kind, tenant=name if kind == TENANT else "", name=name, revision=revision)
    tenant, slash, own = name.partition("/")
    if not slash:
        raise click.UsageError(f"name it as TENANT/NAME, such as harbour-bank/{name}")
    return pb.DocumentRef(kind=kind, tenant=tenant, name=own, revision=revision)
