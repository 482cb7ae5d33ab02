"""The hub as a node sees it, played by the test: signed bundles of real documents, signed with a key of the test."""

import hashlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from contract.downlink_pb2 import Backings, Bundle, BundleManifest, BundleMessage, Document, Roster, Signed
from edge.sync.verification import key_id

REGION = "in-south"
NODE = "node-1"
TENANTS = Path(__file__).parents[3] / "edge/tenants"
SHOP, BANK = "volt-electronics", "harbour-bank"
CREATED_AT_MS = 1_790_000_000_000


class SigningHub:
    """Signs what a hub would send."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()

    def sign(self, body: bytes) -> Signed:
        return Signed(body=body, signature=self.key.sign(body), key_id=key_id(self.key.public_key()))

    def bundle(
        self,
        version: int,
        documents: Sequence[Document] | None = None,
        *,
        region: str = REGION,
        content: bytes | None = None,
        roster: Roster | None = None,
        backings: Backings | None = None,
    ) -> bytes:
        """A bundle's message, of the shop's documents unless told otherwise."""
        raw = Bundle(documents=documents or shop(), roster=roster, backings=backings).SerializeToString()
        packed = zstandard.compress(raw) if content is None else content
        manifest = BundleManifest(
            region=region,
            version=version,
            content_sha256=hashlib.sha256(packed).digest(),
            content_bytes=len(packed),
            created_at_ms=CREATED_AT_MS,
        )
        signed = self.sign(manifest.SerializeToString())
        return BundleMessage(manifest=signed, content=packed).SerializeToString()


def shop(edit: Callable[[str], str] = str) -> list[Document]:
    """The documents of the example shop, one YAML document each."""
    kinds = {"Tenant": SHOP, "Policy": "shop", "Agent": "shop-line"}
    documents: list[Document] = []
    for path in ("tenant.yaml", "agent.yaml", "flows.yaml"):
        for text in (TENANTS / SHOP / path).read_text(encoding="utf-8").split("\n---\n"):
            kind = next(line for line in text.splitlines() if line.startswith("kind: ")).removeprefix("kind: ")
            name = kinds.get(kind) or text.split("name: ", 1)[1].split("}", 1)[0].split(",", 1)[0].strip()
            documents.append(Document(kind=kind, tenant=SHOP, name=name, revision=1, yaml=edit(text).encode()))
    return documents


def zip_bomb(size_bytes: int) -> bytes:
    """Zstd that unpacks to zeros of any size, without saying so in its header."""
    packed = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(packed, closefd=False) as writer:
        for _ in range(size_bytes // 65536 + 1):
            writer.write(bytes(65536))
    return packed.getvalue()
