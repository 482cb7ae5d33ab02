"""Keys and requests of a node, and the judgement of what came back for them. Pure but for the dice.

A key is made here, goes into a file of root's here, and nowhere else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

from provisioning.identity.certificates import new_key, new_request, private_pem
from provisioning.identity.names import NODE_ROLES, ServiceName, ServiceRole
from provisioning.node.errors import EnrolmentError
from provisioning.node.identity_folder import Pair


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One certificate (PEM) as it came back."""

    role: str
    generation: int
    certificate: bytes


def new_keys(roles: Sequence[ServiceRole] = NODE_ROLES) -> dict[ServiceRole, EllipticCurvePrivateKey]:
    """One a role."""
    return {role: new_key() for role in roles}


def request_of(node: str, role: ServiceRole, key: EllipticCurvePrivateKey) -> bytes:
    """PKCS 10, DER."""
    return new_request(key, f"{node} {role}")


def pairs_of(
    site: str,
    node: str,
    keys: Mapping[ServiceRole, EllipticCurvePrivateKey],
    answers: Sequence[Answer],
    authority: bytes,
) -> list[Pair]:
    """Certificates with their keys. Raises EnrolmentError unless there is exactly one for each key, signed by the
    authority, and named as this node."""
    if sorted(answer.role for answer in answers) != sorted(keys):
        wanted, got = ", ".join(sorted(keys)), ", ".join(sorted(answer.role for answer in answers))
        raise _odd(f"it sent certificates for {got or 'nobody'} where {wanted} were asked for")
    root = x509.load_pem_x509_certificate(authority)
    return [_pair(ServiceName(site=site, node=node, role=ServiceRole(a.role)), keys, a, root) for a in answers]


def _pair(
    name: ServiceName,
    keys: Mapping[ServiceRole, EllipticCurvePrivateKey],
    answer: Answer,
    root: x509.Certificate,
) -> Pair:
    key = keys[name.role]
    try:
        certificate = x509.load_pem_x509_certificate(answer.certificate)
        certificate.verify_directly_issued_by(root)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as error:
        raise _odd(f"the certificate of {name.key} is not the authority's: {error}") from error
    if certificate.public_key() != key.public_key():
        raise _odd(f"the certificate of {name.key} is for another key")
    if names.get_values_for_type(x509.UniformResourceIdentifier) != [name.uri(answer.generation)]:
        raise _odd(f"the certificate of {name.key} names somebody else")
    return Pair(role=name.role, generation=answer.generation, certificate=answer.certificate, key=private_pem(key))


def _odd(what: str) -> EnrolmentError:
    return EnrolmentError(f"the hub's answer makes no sense: {what}; nothing was changed", hint="Report this as a bug.")
