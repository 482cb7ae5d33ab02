"""Signs what the hub sends down. Nodes believe only what carries this signature."""

import hashlib
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from contract.downlink_pb2 import Signed
from controlplane.errors import SigningKeyError

KEY_ID_HEX_DIGITS = 16


class Signer:
    """An Ed25519 key that signs bytes."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.key_id = hashlib.sha256(public).hexdigest()[:KEY_ID_HEX_DIGITS]

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read an unencrypted PKCS#8 PEM file. Raises SigningKeyError."""
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise SigningKeyError(f"{path}: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise SigningKeyError(f"{path}: is no private key in PEM without a password") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningKeyError(f"{path}: is no Ed25519 key")
        return cls(key)

    def sign(self, body: bytes) -> Signed:
        """The body with a signature over exactly these bytes."""
        return Signed(body=body, signature=self._key.sign(body), key_id=self.key_id)
