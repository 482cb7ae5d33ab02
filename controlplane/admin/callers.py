"""Who asks, and with which role. The client certificate names both: CN the person, OU the role."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

from controlplane.errors import NotAllowedError, UnknownCallerError


class Role(StrEnum):
    """What a person may do at the hub."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    COMPLIANCE = "compliance"
    ADMIN = "admin"

    def may_act_as(self, needed: "Role") -> bool:
        """Everyone may look; an admin may do everything; operator and compliance do not include each other."""
        return needed in (Role.VIEWER, self) or self is Role.ADMIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The person behind a request. `serial` is the certificate's."""

    name: str
    role: Role
    serial: int


class CallContext(Protocol):
    """What this module needs of a gRPC context."""

    def auth_context(self) -> dict[str, list[bytes]]: ...


def caller_of(context: CallContext) -> Caller:
    """Who asks. Raises UnknownCallerError. The TLS layer has verified the certificate's chain already."""
    certificates = context.auth_context().get("x509_pem_cert", [])
    if not certificates:
        raise UnknownCallerError("the request came without a client certificate")
    certificate = x509.load_pem_x509_certificate(bytes(certificates[0]))
    name = _only(certificate, NameOID.COMMON_NAME)
    role = _only(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)
    if name is None or role not in list(Role):
        raise UnknownCallerError(f"the certificate of {name!r} has no role; its OU is {role!r}")
    return Caller(name=name, role=Role(role), serial=certificate.serial_number)


def require(context: CallContext, needed: Role) -> Caller:
    """Return who asks, if they have the role. Raises NotAllowedError and UnknownCallerError, which the server's
    interceptor turns into PERMISSION_DENIED and UNAUTHENTICATED."""
    caller = caller_of(context)
    if not caller.role.may_act_as(needed):
        raise NotAllowedError(f"{caller.name} is {caller.role}; this needs {needed}")
    return caller


def _only(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str | None:
    values = certificate.subject.get_attributes_for_oid(oid)
    return str(values[0].value) if len(values) == 1 else None
