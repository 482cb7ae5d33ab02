"""Enrolment tokens as a node reads them: `bo1.<id>.<secret>.<fingerprint>`. Pure.

The fingerprint is the first 32 hex digits of the SHA-256 of the authority's certificate (DER): by it the node knows the
hub before it has any certificate, and sends the secret to nobody else.
"""

import hashlib
import re
from dataclasses import dataclass, field

from provisioning.node.errors import EnrolmentError

FINGERPRINT_DIGITS = 32
_TOKEN = re.compile(
    r"bo1\.(?P<id>[A-Za-z0-9_-]{1,64})\.(?P<secret>[A-Za-z0-9_-]{16,256})\.(?P<fingerprint>[0-9a-f]{32})"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token. `text` is what the hub is sent, after it has proved who it is."""

    id: str
    fingerprint: str
    text: str = field(repr=False)


def parse_token(text: str) -> Token:
    """Raises EnrolmentError, which never shows the text."""
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise EnrolmentError(
            "this is no enrolment token: it must look like bo1.<id>.<secret>.<32 hex digits>",
            hint="Copy the whole line that `borough node token create` printed.",
        )
    return Token(id=match["id"], fingerprint=match["fingerprint"], text=match.group())


def fingerprint_of(certificate_der: bytes) -> str:
    """As tokens have it."""
    return hashlib.sha256(certificate_der).hexdigest()[:FINGERPRINT_DIGITS]
