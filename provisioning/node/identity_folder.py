"""/etc/borough/identity: the certificates and keys of one machine, all of them root's. The only module that writes it.

    authority.pem, signing.pub             what this machine trusts
    roster.json, roster.version            who belonged to its region when its certificates were made
    <role>/<generation>/                   certificate.pem, key.pem
    <role>/current -> <generation>         what services are given at their next start

The folder appears whole or not at all. A renewed certificate lies beside the current one until `switch`.
"""

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from provisioning.identity.names import ServiceRole
from provisioning.identity.store import CERTIFICATE, KEY
from provisioning.nats.render import KeyFiles
from provisioning.node.errors import NodeIdentityError

AUTHORITY = "authority.pem"
SIGNING_PUBLIC = "signing.pub"
ROSTER = "roster.json"
# The first bundle that has this roster.
ROSTER_VERSION = "roster.version"
# While renewed certificates lie beside the current ones: the first bundle that lets them in everywhere.
STAGED_VERSION = "staged.version"
CURRENT = "current"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A certificate and its key, both PEM; the key was made on this machine."""

    role: ServiceRole
    generation: int
    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What came with certificates."""

    authority: bytes
    signing_public: bytes
    # JSON of the roster and the first bundle that has it; a hub has none.
    roster: str | None = None
    roster_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A certificate of this machine, as it says itself."""

    role: ServiceRole
    generation: int
    serial: str
    not_after: datetime

    def expires_in_days(self, now: datetime) -> float:
        """Negative once it has expired."""
        return (self.not_after - now).total_seconds() / 86_400


@dataclass(frozen=True, slots=True)
class IdentityFolder:
    """The identity of a machine."""

    root: Path

    @property
    def authority(self) -> Path:
        return self.root / AUTHORITY

    @property
    def is_enrolled(self) -> bool:
        """Whether there is an identity; the folder itself may have been made empty."""
        return self.authority.exists()

    def current(self, role: ServiceRole) -> KeyFiles:
        """The files that services are given. Does not say whether they are there."""
        folder = self.root / role / CURRENT
        return KeyFiles(certificate=folder / CERTIFICATE, key=folder / KEY)

    def at(self, role: ServiceRole, generation: int) -> KeyFiles:
        """The files of one generation. Does not say whether they are there."""
        folder = self.root / role / str(generation)
        return KeyFiles(certificate=folder / CERTIFICATE, key=folder / KEY)

    def roles(self) -> list[ServiceRole]:
        """Roles that this machine has a current certificate of."""
        return [role for role in ServiceRole if (self.root / role / CURRENT).is_symlink()]

    def held(self) -> list[Held]:
        """All current certificates. Raises NodeIdentityError."""
        return [self._held(role, self.current(role).certificate) for role in self.roles()]

    def staged(self) -> list[Held]:
        """Renewed certificates that are not in use yet, and those of roles that are new. Raises NodeIdentityError."""
        found = []
        current = self.roles()
        for role in ServiceRole:
            newest = max(_generations(self.root / role), default=0)
            if newest > (self._generation(role) if role in current else 0):
                found.append(self._held(role, self.at(role, newest).certificate))
        return found

    def install(self, pairs: Sequence[Pair], trust: Trust) -> None:
        """Put a whole identity in place of none, or of the one that was here. Raises NodeIdentityError."""
        fresh = self.root.with_name(f".{self.root.name}.new")
        old = self.root.with_name(f".{self.root.name}.old")
        try:
            for leftover in (fresh, old):
                shutil.rmtree(leftover, ignore_errors=True)
            fresh.mkdir(parents=True, mode=0o700)
            _write_trust(fresh, trust)
            for pair in pairs:
                _write_pair(fresh, pair)
                _point(fresh / pair.role, pair.generation)
            if self.is_enrolled:
                self.root.rename(old)
            # A folder that was made empty is replaced; one with anything in it is not (rename(2)).
            fresh.rename(self.root)
            _sync(self.root.parent)
        except OSError as error:
            raise NodeIdentityError(
                f"{error.filename}: {error.strerror}", hint="Run it as root; the folder must be empty or an identity."
            ) from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)

    def stage(self, pairs: Sequence[Pair], version: int) -> None:
        """Lay renewed certificates beside the current ones; `version` is the first bundle that lets them in.

        Raises NodeIdentityError.
        """
        try:
            for pair in pairs:
                _write_pair(self.root, pair)
            _write(self.root / STAGED_VERSION, str(version).encode())
        except OSError as error:
            raise NodeIdentityError(f"{error.filename}: {error.strerror}") from error

    def staged_version(self) -> int | None:
        """The first bundle that lets staged certificates in; None where a renewal never got that far."""
        try:
            return int((self.root / STAGED_VERSION).read_text(encoding="ascii"))
        except FileNotFoundError:
            return None

    def point(self, held: Iterable[Held]) -> None:
        """Have services use these certificates from their next start on."""
        for one in held:
            _point(self.root / one.role, one.generation)

    def discard_staged(self) -> None:
        """Remove what was staged; its keys are in use nowhere."""
        for held in self.staged():
            shutil.rmtree(self.root / held.role / str(held.generation))
        (self.root / STAGED_VERSION).unlink(missing_ok=True)

    def discard_old(self) -> None:
        """Remove the keys of certificates that are not in use any more; a renewal ends with this."""
        (self.root / STAGED_VERSION).unlink(missing_ok=True)
        for role in self.roles():
            for generation in _generations(self.root / role):
                if generation < self._generation(role):
                    shutil.rmtree(self.root / role / str(generation))

    def save_roster(self, roster: str, version: int) -> None:
        """Keep a newer roster."""
        _write(self.root / ROSTER, roster.encode())
        _write(self.root / ROSTER_VERSION, str(version).encode())

    def _generation(self, role: ServiceRole) -> int:
        return int((self.root / role / CURRENT).readlink().name)

    def _held(self, role: ServiceRole, path: Path) -> Held:
        try:
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
            generation = int(path.parent.resolve().name)
        except (OSError, ValueError) as error:
            raise NodeIdentityError(f"{path}: {error}") from error
        return Held(
            role=role,
            generation=generation,
            serial=f"{certificate.serial_number:x}",
            not_after=certificate.not_valid_after_utc,
        )


def _generations(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def _write_trust(folder: Path, trust: Trust) -> None:
    _write(folder / AUTHORITY, trust.authority)
    _write(folder / SIGNING_PUBLIC, trust.signing_public)
    if trust.roster is not None:
        _write(folder / ROSTER, trust.roster.encode())
        _write(folder / ROSTER_VERSION, str(trust.roster_version).encode())


def _write_pair(folder: Path, pair: Pair) -> None:
    place = folder / pair.role / str(pair.generation)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(place / KEY, pair.key)
    _write(place / CERTIFICATE, pair.certificate)
    _sync(place)


def _point(folder: Path, generation: int) -> None:
    fresh = folder / f".{CURRENT}.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(str(generation))
    fresh.rename(folder / CURRENT)
    _sync(folder)


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
