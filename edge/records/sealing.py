"""Seals short texts with AES-256-GCM (NIST SP 800-38D). Pure: bytes in, bytes out.

A sealed text is one byte of format, a random nonce of 12 bytes, ciphertext and tag. The place it was written to
(tenant, call, turn, column) is bound into it, so a sealed text that is moved to another row does not open there.
"""

import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
FORMAT = b"\x01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a sealed text belongs."""

    tenant: str
    call_id: str
    seq: int
    column: str

    def bound(self) -> bytes:
        """The bytes that are authenticated with the text; no two places share them."""
        return "\x1f".join((self.tenant, self.call_id, str(self.seq), self.column)).encode()


class SealBrokenError(Exception):
    """The text was changed, moved to another place, or sealed with another key."""


def seal(key: bytes, plain: bytes, bound: bytes) -> bytes:
    """Encrypt; every call draws a nonce, so equal texts look different."""
    nonce = os.urandom(NONCE_BYTES)
    return FORMAT + nonce + AESGCM(key).encrypt(nonce, plain, bound)


def unseal(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    """Decrypt. Raises SealBrokenError."""
    if sealed[:1] != FORMAT:
        raise SealBrokenError("unknown format")
    nonce, ciphertext = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, bound)
    except (InvalidTag, ValueError) as error:
        raise SealBrokenError("the seal does not hold") from error
