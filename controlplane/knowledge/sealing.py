"""Signed messages for the regions: the same content, each region's manifest its own."""

import hashlib

from contract.downlink_pb2 import DeltaBase, KnowledgeManifest, KnowledgeMessage, RemovalContent, SnapshotContent
from controlplane.knowledge.content import SnapshotFile
from controlplane.knowledge.store import REMOVED_BYTES, KnowledgeVersion, OutgoingMessage
from controlplane.signing import Signer


class Seal:
    """Describes and signs what a region gets."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def delta(self, tenant: str, region: str, version: KnowledgeVersion, content: bytes) -> OutgoingMessage:
        """The content follows the version before."""
        manifest = _manifest(tenant, region, version, hashlib.sha256(content).digest(), len(content))
        manifest.delta.CopyFrom(DeltaBase(version=version.version - 1))
        return self._sealed(manifest, content, None)

    def snapshot(self, tenant: str, region: str, version: KnowledgeVersion, file: SnapshotFile) -> OutgoingMessage:
        """The content lies in the region's object store."""
        manifest = _manifest(tenant, region, version, bytes.fromhex(file.name), file.packed_bytes)
        content = SnapshotContent(
            object=file.name, file_sha256=file.file_sha256, file_bytes=file.file_bytes, embedding=version.model
        )
        manifest.snapshot.CopyFrom(content)
        return self._sealed(manifest, b"", file.name)

    def removal(self, tenant: str, region: str, version: KnowledgeVersion) -> OutgoingMessage:
        """The region serves the tenant no longer."""
        manifest = _manifest(tenant, region, version, b"", REMOVED_BYTES)
        manifest.removal.CopyFrom(RemovalContent())
        return self._sealed(manifest, b"", None)

    def _sealed(self, manifest: KnowledgeManifest, content: bytes, object_name: str | None) -> OutgoingMessage:
        signed = self._signer.sign(manifest.SerializeToString(deterministic=True))
        return OutgoingMessage(
            region=manifest.region,
            tenant=manifest.tenant,
            version=manifest.version,
            object_name=object_name,
            content_bytes=manifest.content_bytes,
            message=KnowledgeMessage(manifest=signed, content=content).SerializeToString(),
        )


def _manifest(
    tenant: str, region: str, version: KnowledgeVersion, digest: bytes, content_bytes: int
) -> KnowledgeManifest:
    return KnowledgeManifest(
        region=region,
        tenant=tenant,
        version=version.version,
        created_at_ms=version.created_at_ms,
        items=version.items,
        content_sha256=digest,
        content_bytes=content_bytes,
    )
