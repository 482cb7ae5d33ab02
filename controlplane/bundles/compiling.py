"""What goes into a region's bundle, and how it is signed. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import zstandard

from contract import downlink_pb2 as pb
from contract.downlink_pb2 import Bundle, BundleManifest, BundleMessage, Document, Roster
from contract.streams import MAX_PAYLOAD_BYTES
from controlplane.documents.backing import Backing, PackBacking
from controlplane.documents.estate import Estate, documents_of, regions_in, tenants_of
from controlplane.documents.model import AGENT, REGION, DocumentKey, Entry
from controlplane.errors import BundleTooLargeError
from controlplane.signing import Signer

ZSTD_LEVEL = 10  # 300 kB of YAML in 8 ms
# The manifest and the headers need a little of a message.
MAX_CONTENT_BYTES = MAX_PAYLOAD_BYTES - 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """All that holds in one region, serialised. `digest` changes exactly when a document or the roster does."""

    region: str
    content: bytes
    digest: bytes


def compile_regions(estate: Estate, rosters: Mapping[str, Roster], backing: PackBacking) -> list[Compiled]:
    """Every region's documents, with the roster of those that have one, and who backs whom. Raises
    BundleTooLargeError."""
    backings, served = backing.of(estate), backing.served(estate)
    of_region: dict[str, list[Entry]] = {
        region: [estate[DocumentKey(kind=REGION, tenant="", name=region)]] for region in regions_in(estate)
    }
    for tenant in tenants_of(estate):
        documents = documents_of(estate, tenant)
        if not any(entry.key.kind == AGENT for entry in documents):
            # Nodes refuse a bundle with a tenant for whom nobody answers, and with it all other tenants.
            continue
        for region in served[tenant]:
            if region in of_region:
                of_region[region] += documents
    return [_compile(region, entries, rosters.get(region), backings) for region, entries in of_region.items()]


def _compile(region: str, entries: list[Entry], roster: Roster | None, backings: Sequence[Backing]) -> Compiled:
    told = [_backing(backing) for backing in backings if region in (backing.region, backing.backup)]
    bundle = Bundle(
        documents=[_document(entry) for entry in entries],
        roster=roster,
        backings=pb.Backings(region=region, backings=told) if told else None,
    )
    body = bundle.SerializeToString(deterministic=True)
    content = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(body)
    if len(content) > MAX_CONTENT_BYTES:
        raise BundleTooLargeError(
            f"the {len(entries)} documents of region {region} are {len(content)} bytes compressed; "
            f"{MAX_CONTENT_BYTES} are possible"
        )
    return Compiled(region=region, content=content, digest=hashlib.sha256(body).digest())


def seal(compiled: Compiled, *, version: int, at_ms: int, signer: Signer) -> bytes:
    """The serialised BundleMessage of a version."""
    manifest = BundleManifest(
        region=compiled.region,
        version=version,
        content_sha256=hashlib.sha256(compiled.content).digest(),
        content_bytes=len(compiled.content),
        created_at_ms=at_ms,
    )
    message = BundleMessage(manifest=signer.sign(manifest.SerializeToString()), content=compiled.content)
    return message.SerializeToString()


def _backing(backing: Backing) -> pb.Backing:
    return pb.Backing(
        region=backing.region,
        backup=backing.backup,
        tenant=backing.tenant,
        numbers=backing.numbers,
        refused_by=backing.refused_by,
        article=backing.article,
    )


def _document(entry: Entry) -> Document:
    key = entry.key
    return Document(kind=key.kind, tenant=key.tenant, name=key.name, revision=entry.revision, yaml=entry.yaml.encode())
