"""What a node asks for, checked before anybody signs it. Pure."""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contract.names import is_region
from controlplane.enrolment.errors import CertificateRequestError, NodeAddressError

AGENT = "agent"
# Roles that others connect to, so that their certificates name addresses.
LISTENING = frozenset({"server", "metrics", "inference"})
INFERENCE = "inference"
MOST_REQUESTS = 16
_ROLE = re.compile(r"[a-z]{1,20}")
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRequest:
    """A certificate wanted for a role, by the key that signed the request (PKCS 10, DER)."""

    role: str
    csr_der: bytes


def check_requests(requests: Iterable[KeyRequest]) -> tuple[KeyRequest, ...]:
    """Return them if each is sound, of a role of its own, and with a key of its own; the agent's must be among them.
    Which roles there are, the authority knows. Raises CertificateRequestError."""
    checked = tuple(requests)
    if not 1 <= len(checked) <= MOST_REQUESTS:
        raise CertificateRequestError(f"1 to {MOST_REQUESTS} requests are possible")
    keys = {_public_key(request) for request in checked}
    roles = {request.role for request in checked}
    if len(roles) != len(checked) or len(keys) != len(checked):
        raise CertificateRequestError("each role needs one request, with a key of its own")
    if AGENT not in roles:
        raise CertificateRequestError(f"a request for the role {AGENT} is missing")
    return checked


def check_name(region: str, node: str) -> None:
    """Raises CertificateRequestError for what cannot name a region and a node."""
    if not is_region(region) or not is_region(node):
        raise CertificateRequestError("region and node are lower-case letters, digits and hyphens, a letter first")


def check_address(address: str) -> None:
    """Raises NodeAddressError for what no sibling could reach."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        is_sound = _HOST.fullmatch(address) is not None and address != "localhost" and not address[-1].isdigit()
    else:
        is_sound = not (found.is_loopback or found.is_unspecified or found.is_multicast or found.is_link_local)
    if not is_sound:
        raise NodeAddressError("the address is no host name or IP address that other nodes could reach")


def _public_key(request: KeyRequest) -> bytes:
    if _ROLE.fullmatch(request.role) is None:
        raise CertificateRequestError("a role is no word of lower-case letters")
    try:
        csr = x509.load_der_x509_csr(request.csr_der)
        key = csr.public_key()
        is_signed = csr.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CertificateRequestError(f"the request for {request.role} cannot be read") from error
    if not is_signed or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CertificateRequestError(f"the request for {request.role} is not signed by a key of P-256")
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
