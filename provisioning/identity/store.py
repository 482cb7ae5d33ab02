"""The folder in which the authority, all certificates and the hub's signing key lie. The only module that reads or
writes it.

    authority.pem, authority.key         the certificate authority
    signing.key, signing.pub             the hub's Ed25519 pair: signs bundles and knowledge; nodes hold signing.pub
    revoked.json                         {"serials": ["<hex>", ...]}, read by the admin API
    certificates.json                    one entry a certificate, never removed
    <site>/<node>/<role>/<generation>/   certificate.pem, and key.pem where the key was made here
    <site>/<node>/<role>/current         link to the generation that the service uses, swapped in one step
    people/<name>/...                    the same

Private files have mode 0600, folders 0700; what root writes belongs to the owner of the folder, a service. A staged
certificate is valid beside the current one until `switch`; after it, and after `revoke`, the NATS configuration has to
be rendered again and reloaded.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provisioning.identity.certificates import (
    Authority,
    Certified,
    Order,
    new_authority,
    new_key,
    person_order,
    private_pem,
    service_order,
)
from provisioning.identity.errors import (
    IdentityDamagedError,
    IdentityExistsError,
    IdentityMissingError,
    IdentityRevokedError,
)
from provisioning.identity.names import PersonName, ServiceName

AUTHORITY_NAME = "Borough authority"
CERTIFICATE = "certificate.pem"
KEY = "key.pem"


class State(StrEnum):
    """Where a certificate is in its life."""

    STAGED = "staged"  # issued beside the current one
    CURRENT = "current"
    RETIRED = "retired"  # replaced
    REVOKED = "revoked"


VALID = (State.STAGED, State.CURRENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One certificate of the index."""

    key: str
    generation: int
    serial: str
    pin: str
    not_after: str
    addresses: tuple[str, ...]
    role: str
    state: State

    def expires_in_days(self, now: datetime) -> float:
        """Negative once it has expired."""
        return (datetime.fromisoformat(self.not_after) - now).total_seconds() / 86_400


@dataclass(frozen=True, slots=True)
class IdentityStore:
    """Everything the hub's operator holds to say who is who."""

    root: Path

    @property
    def authority_file(self) -> Path:
        """The authority's certificate, which every service trusts."""
        return self.root / "authority.pem"

    @property
    def signing_key_file(self) -> Path:
        return self.root / "signing.key"

    @property
    def signing_public_file(self) -> Path:
        return self.root / "signing.pub"

    @property
    def revoked_file(self) -> Path:
        return self.root / "revoked.json"

    def directory(self, name: ServiceName | PersonName) -> Path:
        """Folder of the certificate and key in use. Does not say whether there is one."""
        return self.root / name.key / "current"

    def certificate_file(self, name: ServiceName | PersonName) -> Path:
        return self.directory(name) / CERTIFICATE

    def key_file(self, name: ServiceName | PersonName) -> Path:
        return self.directory(name) / KEY

    def init(self, now: datetime) -> None:
        """Make the authority and the signing pair. Raises IdentityExistsError."""
        if self.authority_file.exists():
            raise IdentityExistsError(f"{self.authority_file} exists")
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority = new_authority(AUTHORITY_NAME, now)
        signing = Ed25519PrivateKey.generate()
        _write(self.root / "authority.key", private_pem(authority.key))
        _write(self.signing_key_file, private_pem(signing))
        public = signing.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        _write(self.signing_public_file, public, mode=0o644)
        self.save([])
        # Last: its presence says that the folder is whole.
        _write(self.authority_file, authority.certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)

    def issue(
        self, name: ServiceName | PersonName, now: datetime, *, addresses: Sequence[str] = (), days: float | None = None
    ) -> Entry:
        """Issue a certificate: the first one is current at once, a later one is staged beside it."""
        authority, key = self.authority(), new_key()
        with self.locked():
            entries = self.entries()
            order = order_of(name, next_generation(entries, name), addresses, days)
            certified = authority.certify(order, key.public_key(), now)
            entry = entry_of(entries, name, certified, addresses)
            self.write_file(entry, KEY, private_pem(key))
            self.write_file(entry, CERTIFICATE, certified.certificate)
            self.save([*entries, entry])
            if entry.state is State.CURRENT:
                self.point(entry)
        return entry

    def switch(self, name: ServiceName | PersonName) -> Entry:
        """Make the newest staged certificate the current one. Raises IdentityMissingError."""
        with self.locked():
            staged = [e for e in self.entries() if e.key == name.key and e.state is State.STAGED]
            if not staged:
                raise IdentityMissingError(f"{name.key} has no staged certificate", hint="`borough identity rotate`")
            chosen = replace(staged[-1], state=State.CURRENT)
            self.save([switched(entry, chosen) for entry in self.entries()])
            self.point(chosen)
        return chosen

    def revoke(self, keys: str) -> list[Entry]:
        """Revoke every valid certificate of one identity, or of all below a node or site (`in-south/in-south-1`).

        Raises IdentityMissingError if there is none.
        """
        with self.locked():
            entries = self.entries()
            gone = [e for e in entries if e.state in VALID and (e.key == keys or e.key.startswith(f"{keys}/"))]
            if not gone:
                raise IdentityMissingError(f"{keys} has no valid certificate", hint="`borough identity list`")
            revoked = {entry.serial: replace(entry, state=State.REVOKED) for entry in gone}
            self.save([revoked.get(entry.serial, entry) for entry in entries])
        return list(revoked.values())

    def entries(self) -> list[Entry]:
        """All certificates ever issued, oldest first. Raises IdentityMissingError, IdentityDamagedError."""
        try:
            documents = json.loads((self.root / "certificates.json").read_bytes())
            return [
                Entry(**{**item, "addresses": tuple(item["addresses"]), "state": State(item["state"])})
                for item in documents
            ]
        except FileNotFoundError:
            raise IdentityMissingError(f"there is no identity store in {self.root}") from None
        except (ValueError, TypeError, KeyError) as error:
            raise IdentityDamagedError(f"{self.root / 'certificates.json'}: {error}") from error

    def valid(self, name: ServiceName | PersonName, now: datetime) -> list[Entry]:
        """The certificates with which this identity may come: current and staged, not expired."""
        return [e for e in self.entries() if e.key == name.key and e.state in VALID and e.expires_in_days(now) > 0]

    def current(self, name: ServiceName | PersonName) -> Entry:
        """Raises IdentityMissingError."""
        for entry in self.entries():
            if entry.key == name.key and entry.state is State.CURRENT:
                return entry
        raise IdentityMissingError(f"{name.key} has no certificate")

    def ensure(self, name: ServiceName | PersonName, now: datetime, *, addresses: Sequence[str] = ()) -> Entry:
        """The current certificate; issued when there is none, or none that is good for these addresses.

        Raises IdentityRevokedError: who was shut out does not come back because somebody provisions again.
        """
        mine = [entry for entry in self.entries() if entry.key == name.key]
        if mine and mine[-1].state is State.REVOKED:
            raise IdentityRevokedError(f"{name.key} was revoked")
        for entry in mine:
            is_good = entry.addresses == tuple(addresses) and entry.expires_in_days(now) > 0
            if entry.state is State.CURRENT and is_good:
                return entry
        entry = self.issue(name, now, addresses=addresses)
        return self.switch(name) if entry.state is State.STAGED else entry

    def authority(self) -> Authority:
        """The key that signs. Raises IdentityMissingError, IdentityDamagedError."""
        try:
            certificate = x509.load_pem_x509_certificate(self.authority_file.read_bytes())
            key = serialization.load_pem_private_key((self.root / "authority.key").read_bytes(), password=None)
        except FileNotFoundError as error:
            raise IdentityMissingError(f"there is no authority in {self.root}: {error.filename}") from None
        except ValueError as error:
            raise IdentityDamagedError(f"the authority in {self.root} cannot be read: {error}") from error
        if not isinstance(key, EllipticCurvePrivateKey):
            raise IdentityDamagedError(f"{self.root / 'authority.key'} is of another kind")
        return Authority(certificate, key)

    def write_file(self, entry: Entry, name: str, content: bytes) -> None:
        """A file of a certificate; the index says nothing of it yet."""
        directory = self.root / entry.key / str(entry.generation)
        _make_folder(directory)
        _write(directory / name, content)

    def point(self, entry: Entry) -> None:
        """Make this the certificate that its service uses."""
        link = self.root / entry.key / "current"
        fresh = link.with_name("current.new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(str(entry.generation))
        fresh.rename(link)

    def save(self, entries: Sequence[Entry]) -> None:
        """Write the index; under the lock."""
        revoked = [entry.serial for entry in entries if entry.state is State.REVOKED]
        # The list first: a certificate is refused too early rather than too late.
        _write(self.revoked_file, json.dumps({"serials": revoked}, indent=1).encode(), mode=0o644)
        _write(self.root / "certificates.json", json.dumps([asdict(entry) for entry in entries], indent=1).encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process and thread from changing the index meanwhile."""
        with (self.root / "lock").open("a") as lock:
            _give_to_owner(self.root / "lock")
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def next_generation(entries: Iterable[Entry], name: ServiceName | PersonName) -> int:
    """Of the next certificate of this name; the first is 1."""
    return sum(entry.key == name.key for entry in entries) + 1


def order_of(
    name: ServiceName | PersonName, generation: int, addresses: Sequence[str], days: float | None = None
) -> Order:
    """What a certificate of this name says."""
    order = service_order(name, generation, addresses) if isinstance(name, ServiceName) else person_order(name)
    return order if days is None else replace(order, days=days)


def entry_of(
    entries: Iterable[Entry], name: ServiceName | PersonName, certified: Certified, addresses: Sequence[str]
) -> Entry:
    """What the index is to say of a new certificate: the first one is current at once, a later one is staged."""
    mine = [entry for entry in entries if entry.key == name.key]
    return Entry(
        key=name.key,
        generation=next_generation(mine, name),
        serial=f"{certified.serial:x}",
        pin=certified.pin,
        not_after=certified.not_after.astimezone(UTC).isoformat(),
        addresses=tuple(addresses),
        role=str(name.role),
        state=State.STAGED if any(entry.state is State.CURRENT for entry in mine) else State.CURRENT,
    )


def switched(entry: Entry, chosen: Entry) -> Entry:
    """An entry of the index once `chosen` is current: the others of its name retire."""
    if entry.key != chosen.key or entry.state not in VALID:
        return entry
    return chosen if entry.generation == chosen.generation else replace(entry, state=State.RETIRED)


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.chmod(mode)
    _give_to_owner(fresh)
    fresh.rename(path)


def _make_folder(path: Path) -> None:
    if not path.is_dir():
        _make_folder(path.parent)
        path.mkdir(mode=0o700)
        _give_to_owner(path)


def _give_to_owner(path: Path) -> None:
    # Root issues to people in the folder of a service that must read it afterwards.
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.chown(path, folder.st_uid, folder.st_gid)
