"""A configuration bundle, from the bytes of its message to documents that may be unpacked. Pure.

Checked in this order: form, signature, region, version, size and digest, bound on unpacking, form of every document
and its name (names become file names, so nothing else may pass).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from contract import uplink_pb2
from contract.downlink_pb2 import Backings, Bundle, BundleManifest, BundleMessage, Document, Roster
from contract.names import is_name, is_region
from edge.sync.errors import RefusedError
from edge.sync.verification import TrustedKeys, check_content, parsed, unpacked

REGION_KIND = "Region"
TENANT_KINDS = ("Tenant", "Agent", "Flow", "Policy")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedBundle:
    """A bundle that the hub signed for this region. `message` are the bytes as received; `roster` is None where the hub
    enrols no nodes, `backings` where the region neither backs another nor is backed."""

    version: int
    created_at_ms: int
    documents: tuple[Document, ...]
    roster: Roster | None
    backings: Backings | None
    message: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleReader:
    """Opens what comes on a region's bundle subject."""

    region: str
    keys: TrustedKeys
    limit_bytes: int

    def manifest(self, data: bytes) -> tuple[BundleManifest, bytes]:
        """Return the manifest and the content, still unchecked, of a message that the hub signed for this region.

        Raises RefusedError.
        """
        message = parsed(BundleMessage, data)
        manifest = parsed(BundleManifest, self.keys.body_of(message.manifest))
        if manifest.region != self.region:
            raise RefusedError(uplink_pb2.REFUSAL_WRONG_REGION, "the bundle is for another region")
        return manifest, message.content

    def open(self, data: bytes, *, newer_than: int) -> CheckedBundle:
        """Open a message whose version must be newer. Raises RefusedError."""
        manifest, content = self.manifest(data)
        if manifest.version <= newer_than:
            text = f"version {manifest.version} is not newer than {newer_than}"
            raise RefusedError(uplink_pb2.REFUSAL_REPLAYED, text)
        check_content(content, sha256=manifest.content_sha256, size_bytes=manifest.content_bytes)
        bundle = parsed(Bundle, unpacked(content, limit_bytes=self.limit_bytes))
        _check_names(bundle.documents)
        if bundle.HasField("roster") and bundle.roster.region != self.region:
            raise RefusedError(uplink_pb2.REFUSAL_WRONG_REGION, "the roster is another region's")
        if bundle.HasField("backings") and bundle.backings.region != self.region:
            raise RefusedError(uplink_pb2.REFUSAL_WRONG_REGION, "the backings are another region's")
        return CheckedBundle(
            version=manifest.version,
            created_at_ms=manifest.created_at_ms,
            documents=tuple(bundle.documents),
            roster=bundle.roster if bundle.HasField("roster") else None,
            backings=bundle.backings if bundle.HasField("backings") else None,
            message=data,
        )


def file_name(document: Document) -> str:
    """Where a document lies inside a bundle's folder; only for names that were checked."""
    if document.kind == REGION_KIND:
        return "region.yaml"
    name = "tenant" if document.kind == "Tenant" else f"{document.kind.lower()}-{document.name}"
    return f"{document.tenant}/{name}.yaml"


def _check_names(documents: Sequence[Document]) -> None:
    seen: set[str] = set()
    for document in documents:
        is_sound = (
            is_region(document.name) and not document.tenant
            if document.kind == REGION_KIND
            else document.kind in TENANT_KINDS and is_name(document.tenant) and is_name(document.name)
        )
        if not is_sound:
            raise RefusedError(uplink_pb2.REFUSAL_MALFORMED, "a document has a kind or name that is not allowed")
        if file_name(document) in seen:
            raise RefusedError(uplink_pb2.REFUSAL_MALFORMED, "a document comes twice")
        seen.add(file_name(document))
