"""What a token is, and whether one that is presented may be used. Pure: time and secrets come in.

A token is text, `bo1.<id>.<secret>.<fingerprint>`: the fingerprint is the first 32 hex digits of the SHA-256 of the
authority's certificate, by which a node knows the hub before it trusts anything else. The hub keeps the SHA-256 of the
secret only. What is wrong with a token is told only to who knows its secret.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from controlplane.enrolment.errors import (
    TokenExpiredError,
    TokenForeignError,
    TokenRevokedError,
    TokenStolenError,
    TokenUnknownError,
    TokenUsedError,
)

PREFIX = "bo1"
ID_BYTES = 6
SECRET_BYTES = 32
FINGERPRINT_HEX_DIGITS = 32
_TEXT = re.compile(rf"{PREFIX}\.([0-9a-f]{{12}})\.([A-Za-z0-9_-]{{43}})\.([0-9a-f]{{{FINGERPRINT_HEX_DIGITS}}})")


class TokenState(StrEnum):
    """Where a token is in its life."""

    OPEN = "open"
    USED = "used"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as the hub keeps it. `node` is empty for any free name; 0 stands for never."""

    id: str
    secret_sha256: bytes
    region: str
    node: str
    replaces: bool
    created_at_ms: int
    created_by: str
    expires_at_ms: int
    used_at_ms: int = 0
    used_by: str = ""
    used_from: str = ""
    revoked_at_ms: int = 0

    def state(self, now_ms: int) -> TokenState:
        """Used counts before revoked, revoked before expired."""
        if self.used_at_ms:
            return TokenState.USED
        if self.revoked_at_ms:
            return TokenState.REVOKED
        return TokenState.EXPIRED if now_ms >= self.expires_at_ms else TokenState.OPEN


@dataclass(frozen=True, slots=True, kw_only=True)
class PresentedToken:
    """What somebody brought: as text only, until it is compared with what the hub keeps."""

    id: str
    secret: str
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Who wants to use a token, as they say, and from where, as the hub sees."""

    region: str
    node: str
    source: str


def fingerprint_of(authority_pem: bytes) -> str:
    """By which a node knows the hub."""
    der = x509.load_pem_x509_certificate(authority_pem).public_bytes(Encoding.DER)
    return hashlib.sha256(der).hexdigest()[:FINGERPRINT_HEX_DIGITS]


def mint(fingerprint: str) -> tuple[str, str, bytes]:
    """A new token's id, its text, and the SHA-256 of its secret."""
    token_id, secret = secrets.token_hex(ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    return token_id, f"{PREFIX}.{token_id}.{secret}.{fingerprint}", _digest(secret)


def read_token(text: str) -> PresentedToken:
    """Raises TokenUnknownError for what is no token."""
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise TokenUnknownError("this is no token")
    return PresentedToken(id=match.group(1), secret=match.group(2), fingerprint=match.group(3))


def judge(token: Token | None, presented: PresentedToken, attempt: Attempt, now_ms: int) -> Token:
    """Return the token if the attempt may use it. Raises TokenRefusedError."""
    if token is None or not hmac.compare_digest(token.secret_sha256, _digest(presented.secret)):
        raise TokenUnknownError("there is no such token")
    match token.state(now_ms):
        case TokenState.USED if (token.used_by, token.used_from) == (attempt.node, attempt.source):
            raise TokenUsedError(f"token {token.id} was used by {token.used_by}")
        case TokenState.USED:
            raise TokenStolenError(f"token {token.id} was used by {token.used_by}, elsewhere or under another name")
        case TokenState.REVOKED:
            raise TokenRevokedError(f"token {token.id} was revoked")
        case TokenState.EXPIRED:
            raise TokenExpiredError(f"token {token.id} has expired")
        case TokenState.OPEN:
            pass
    if token.region != attempt.region:
        raise TokenForeignError(f"token {token.id} is for region {token.region}")
    if token.node not in ("", attempt.node):
        raise TokenForeignError(f"token {token.id} is for node {token.node}")
    return token


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
