"""Certificates and keys as bytes. Pure: time comes in, PEM goes out, nothing is read or written.

Every key is ECDSA P-256, because gRPC's BoringSSL takes no Ed25519 certificate; only the hub's signature over what it
sends down is Ed25519.
"""

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provisioning.identity.errors import IdentityRequestError
from provisioning.identity.names import PersonName, ServiceName

AUTHORITY_DAYS = 3650
# Long enough to rotate by hand in a quarter, short enough that a lost one does not stay good for years.
SERVICE_DAYS = 180
PERSON_DAYS = 90
# Clocks of nodes differ: a certificate is good this long before it was made.
BACKDATED = timedelta(minutes=5)


# A request for a P-256 key has 300 to 500 bytes.
REQUEST_BYTES = 8_192


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """A certificate, PEM."""

    certificate: bytes
    serial: int
    not_after: datetime
    # SHA-256 of the public key (SubjectPublicKeyInfo), hex; nats-server's `pinned_certs`.
    pin: str


@dataclass(frozen=True, slots=True)
class Authority:
    """The certificate authority of a hub and all its regions."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    def certify(self, order: "Order", key: EllipticCurvePublicKey, now: datetime) -> Certified:
        """Make a certificate for a key."""
        not_after = min(now + timedelta(days=order.days), self.certificate.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(order.subject)
            .issuer_name(self.certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - BACKDATED)
            .not_valid_after(not_after)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(order.usages), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if order.alternative_names:
            builder = builder.add_extension(x509.SubjectAlternativeName(order.alternative_names), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return Certified(
            certificate=certificate.public_bytes(serialization.Encoding.PEM),
            serial=certificate.serial_number,
            not_after=not_after,
            pin=pin_of(key),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a certificate is to say."""

    subject: x509.Name
    alternative_names: Sequence[x509.GeneralName]
    usages: Sequence[x509.ObjectIdentifier]
    days: float


def service_order(name: ServiceName, generation: int, addresses: Sequence[str], days: float = SERVICE_DAYS) -> Order:
    """A service's certificate; `addresses` are the host names and IP addresses it is reached at, empty for one that
    only connects."""
    return Order(
        subject=_subject(name.node, str(name.role)),
        alternative_names=[x509.UniformResourceIdentifier(name.uri(generation)), *map(_general_name, addresses)],
        usages=[ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if addresses else [])],
        days=days,
    )


def person_order(name: PersonName, days: float = PERSON_DAYS) -> Order:
    """A person's certificate for the admin API: CN is the person, OU the role."""
    return Order(
        subject=_subject(name.name, str(name.role)),
        alternative_names=[],
        usages=[ExtendedKeyUsageOID.CLIENT_AUTH],
        days=days,
    )


def new_authority(name: str, now: datetime, days: float = AUTHORITY_DAYS) -> Authority:
    """A self-signed authority that may sign leaf certificates only."""
    key = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate, key)


def private_pem(key: EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    """PKCS 8, not encrypted: the file's mode protects it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def new_key() -> EllipticCurvePrivateKey:
    """A key of the only kind that is certified."""
    return ec.generate_private_key(ec.SECP256R1())


def new_request(key: EllipticCurvePrivateKey, common_name: str) -> bytes:
    """A PKCS 10 request (DER): proves that its maker has the key. The name is for people who look at it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def requested_key(request: bytes) -> EllipticCurvePublicKey:
    """The key that a PKCS 10 request (DER) asks a certificate for. Raises IdentityRequestError."""
    if len(request) > REQUEST_BYTES:
        raise IdentityRequestError(f"a request of {len(request)} bytes; at most {REQUEST_BYTES} are read")
    try:
        parsed = x509.load_der_x509_csr(request)
        key = parsed.public_key()
        is_signed = parsed.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise IdentityRequestError(f"this is no PKCS 10 request: {error}") from error
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise IdentityRequestError("a request for a key of another kind than ECDSA P-256")
    if not is_signed:
        raise IdentityRequestError("the request is not signed with its key")
    return key


def pin_of(key: EllipticCurvePublicKey) -> str:
    """SHA-256 of the public key, hex."""
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(spki).hexdigest()


def _subject(common_name: str, unit: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
        ]
    )


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )
