"""The certificate and key by which this process is known to siblings, and the authority that it trusts."""

from dataclasses import dataclass
from pathlib import Path

from edge.inference.errors import SiblingAccessError


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """PEM."""

    authority: bytes
    certificate: bytes
    key: bytes


def read_identity(authority: Path, certificate: Path, key: Path) -> Identity:
    """Raises SiblingAccessError."""
    try:
        return Identity(authority=authority.read_bytes(), certificate=certificate.read_bytes(), key=key.read_bytes())
    except OSError as error:
        raise SiblingAccessError(f"{error.filename}: {error.strerror}") from error
