"""The certificate and key by which this process is known to siblings, and the authority that it trusts."""

from dataclasses import dataclass
from pathlib import Path

from edge.inference.errors import SiblingAccessError

_BEGIN = b"-----BEGIN "


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """PEM."""

    authority: bytes
    certificate: bytes
    key: bytes


def read_identity(authority: Path, certificate: Path, key: Path) -> Identity:
    """Raises SiblingAccessError."""
    return Identity(authority=_pem(authority), certificate=_pem(certificate), key=_pem(key))


def _pem(path: Path) -> bytes:
    try:
        found = path.read_bytes()
    except OSError as error:
        raise SiblingAccessError(f"{error.filename}: {error.strerror}") from error
    # Where a node has no certificate of the role yet, its units give a word instead (SetCredential=).
    if not found.startswith(_BEGIN):
        raise SiblingAccessError(f"{path}: there is none yet", hint="`borough node renew` on this node brings it.")
    return found
