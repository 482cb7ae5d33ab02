"""The hub's signature: what a reader needs to verify it, and which keys are refused."""

import hashlib
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from controlplane.errors import SigningKeyError
from controlplane.signing import Signer
from tests.controlplane.certificates import write_signing_key


def test_a_reader_verifies_the_body_with_the_public_key(tmp_path: Path) -> None:
    public = write_signing_key(tmp_path / "key.pem").public_key()
    signed = Signer.from_file(tmp_path / "key.pem").sign(b"manifest")
    public.verify(signed.signature, signed.body)
    assert signed.key_id == hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def test_a_changed_body_is_not_believed(tmp_path: Path) -> None:
    public = write_signing_key(tmp_path / "key.pem").public_key()
    signed = Signer.from_file(tmp_path / "key.pem").sign(b"manifest")
    with pytest.raises(InvalidSignature):
        public.verify(signed.signature, signed.body + b"!")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(SigningKeyError, match=r"nowhere\.pem"):
        Signer.from_file(tmp_path / "nowhere.pem")


def test_a_file_that_is_no_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("hello")
    with pytest.raises(SigningKeyError, match="no private key"):
        Signer.from_file(tmp_path / "key.pem")


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(SigningKeyError, match="no Ed25519 key"):
        Signer.from_file(tmp_path / "key.pem")
