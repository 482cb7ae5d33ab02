"""Whether the hub said it: signatures over manifests, digests over content, bounds on both. Pure but for key files.

The order of checks is the order in which they can be trusted: nothing inside a manifest is looked at before its
signature holds, and content is not unpacked before its digest does.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import zstandard
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.protobuf.message import DecodeError, Message

from contract import uplink_pb2
from contract.downlink_pb2 import Signed
from edge.sync.errors import RefusedError, TrustedKeyError

MessageT = TypeVar("MessageT", bound=Message)


def key_id(key: Ed25519PublicKey) -> str:
    """Name of a key: the first 16 hex digits of the SHA-256 of its raw bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


class TrustedKeys:
    """The hub's public keys that this node believes."""

    def __init__(self, keys: Iterable[Ed25519PublicKey]) -> None:
        self._keys: Mapping[str, Ed25519PublicKey] = {key_id(key): key for key in keys}

    @classmethod
    def load(cls, paths: Iterable[Path]) -> "TrustedKeys":
        """Read PEM files. Raises TrustedKeyError."""
        return cls([_load_key(path) for path in paths])

    def body_of(self, signed: Signed) -> bytes:
        """Return what was signed. Raises RefusedError(SIGNATURE)."""
        key = self._keys.get(signed.key_id)
        if key is None:
            raise RefusedError(uplink_pb2.REFUSAL_SIGNATURE, "signed with a key that is not trusted")
        try:
            key.verify(signed.signature, signed.body)
        except InvalidSignature:
            raise RefusedError(uplink_pb2.REFUSAL_SIGNATURE, "the signature does not fit") from None
        return signed.body


def parsed(kind: type[MessageT], data: bytes) -> MessageT:
    """Read a message. Raises RefusedError(MALFORMED)."""
    try:
        return kind.FromString(data)
    except DecodeError:
        raise RefusedError(uplink_pb2.REFUSAL_MALFORMED, f"no {kind.DESCRIPTOR.name}") from None


def check_content(content: bytes, *, sha256: bytes, size_bytes: int) -> None:
    """Check content against its manifest. Raises RefusedError (INCOMPLETE when it is short, else DIGEST)."""
    if len(content) < size_bytes:
        raise RefusedError(uplink_pb2.REFUSAL_INCOMPLETE, f"{len(content)} of {size_bytes} bytes came")
    if len(content) > size_bytes or not hmac.compare_digest(hashlib.sha256(content).digest(), sha256):
        raise RefusedError(uplink_pb2.REFUSAL_DIGEST, "the content is not what the manifest names")


def unpacked(content: bytes, *, limit_bytes: int) -> bytes:
    """Decompress zstd, never beyond the limit. Raises RefusedError(MALFORMED)."""
    try:
        with zstandard.ZstdDecompressor(max_window_size=limit_window(limit_bytes)).stream_reader(content) as reader:
            data = reader.read(limit_bytes + 1)
    except zstandard.ZstdError as error:
        raise RefusedError(uplink_pb2.REFUSAL_MALFORMED, "the content is not zstd") from error
    if len(data) > limit_bytes:
        raise RefusedError(uplink_pb2.REFUSAL_MALFORMED, f"the content unpacks to more than {limit_bytes} bytes")
    return data


def limit_window(limit_bytes: int) -> int:
    """The largest window that content of this size can need: what a hostile frame may make us allocate."""
    return max(1 << (limit_bytes - 1).bit_length(), 1 << zstandard.WINDOWLOG_MIN)


def _load_key(path: Path) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise TrustedKeyError(f"{path}: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise TrustedKeyError(f"{path} holds no Ed25519 key")
    return key
