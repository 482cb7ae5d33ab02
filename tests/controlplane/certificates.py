"""Certificates for tests of the admin API, made as provisioning makes them, for any name and role."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from provisioning.identity.certificates import Authority as SigningAuthority
from provisioning.identity.certificates import Order, new_authority, new_key, private_pem


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A certificate and its key on disk."""

    certificate: Path
    key: Path
    serial: int


class Authority:
    """Issues certificates into a folder; `ca` is the file that both ends trust."""

    def __init__(self, directory: Path, name: str = "Test CA", authority: SigningAuthority | None = None) -> None:
        self._directory = directory
        self._authority = authority or new_authority(name, datetime.now(UTC))
        self.ca = directory / "ca.pem"
        directory.mkdir(parents=True, exist_ok=True)
        self.ca.write_bytes(self._authority.certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, role: str | None = None) -> Identity:
        """A certificate with CN `name` and OU `role` for localhost."""
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, name)]
        if role is not None:
            attributes.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role))
        order = Order(
            subject=x509.Name(attributes),
            alternative_names=[x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))],
            usages=[ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH],
            days=1,
        )
        key = new_key()
        issued = self._authority.certify(order, key.public_key(), datetime.now(UTC))
        files = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        files[0].write_bytes(issued.certificate)
        files[1].write_bytes(private_pem(key))
        return Identity(certificate=files[0], key=files[1], serial=issued.serial)


def write_signing_key(path: Path) -> Ed25519PrivateKey:
    """A new signing key of a hub as PEM."""
    key = Ed25519PrivateKey.generate()
    path.write_bytes(private_pem(key))
    return key
