"""Certificates and keys: issue, rotate, revoke, on disk and as others see them."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cryptography.x509.oid import NameOID

from provisioning.identity.errors import (
    IdentityDamagedError,
    IdentityExistsError,
    IdentityMissingError,
    IdentityNameError,
    IdentityRevokedError,
)
from provisioning.identity.names import PersonName, PersonRole, ServiceName, ServiceRole
from provisioning.identity.store import IdentityStore, State

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
BORDER = ServiceName(site="in-south", node="in-south-1", role=ServiceRole.BORDER)
SERVER = ServiceName(site="in-south", node="in-south-1", role=ServiceRole.SERVER)


@pytest.fixture
def store(tmp_path: Path) -> IdentityStore:
    made = IdentityStore(tmp_path / "identity")
    made.init(NOW)
    return made


def _certificate(store: IdentityStore, name: ServiceName | PersonName) -> x509.Certificate:
    return x509.load_pem_x509_certificate(store.certificate_file(name).read_bytes())


def test_a_certificate_names_the_service_and_is_signed_by_the_authority(store: IdentityStore) -> None:
    """One URI, ECDSA P-256; a service that listens also has its addresses."""
    store.issue(SERVER, NOW, addresses=("127.0.0.1", "node.example"))
    certificate = _certificate(store, SERVER)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(store.authority_file.read_bytes()))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["borough://in-south/in-south-1/server/1"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    assert names.get_values_for_type(x509.DNSName) == ["node.example"]
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"


def test_a_person_is_named_with_a_role(store: IdentityStore) -> None:
    """CN is the person, OU the role, as the admin API reads them."""
    person = PersonName(name="ana", role=PersonRole.COMPLIANCE)
    store.issue(person, NOW)
    subject = _certificate(store, person).subject
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == ["ana"]
    assert [name.value for name in subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)] == ["compliance"]


def test_private_files_are_for_their_owner_only(store: IdentityStore) -> None:
    """Every key, and the folders on the way."""
    store.issue(BORDER, NOW)
    private = [*store.root.rglob("*.key"), *store.root.rglob("key.pem")]
    assert len(private) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700


def test_the_signing_pair_signs(store: IdentityStore) -> None:
    """Ed25519; nodes hold the public half."""
    private = load_pem_private_key(store.signing_key_file.read_bytes(), password=None)
    assert isinstance(private, Ed25519PrivateKey)
    public = load_pem_public_key(store.signing_public_file.read_bytes())
    assert public.public_bytes_raw() == private.public_key().public_bytes_raw()  # type: ignore[union-attr]


def test_a_rotated_certificate_is_valid_beside_the_old_one_until_the_switch(store: IdentityStore) -> None:
    """The generation in its name tells them apart."""
    first = store.issue(BORDER, NOW)
    second = store.issue(BORDER, NOW)
    assert second.state is State.STAGED
    assert [entry.generation for entry in store.valid(BORDER, NOW)] == [1, 2]
    assert _certificate(store, BORDER).serial_number == int(first.serial, 16)
    store.switch(BORDER)
    assert [entry.generation for entry in store.valid(BORDER, NOW)] == [2]
    assert _certificate(store, BORDER).serial_number == int(second.serial, 16)


def test_a_revoked_identity_has_no_valid_certificate_and_its_serial_is_listed(store: IdentityStore) -> None:
    """A node goes with all its roles; its siblings stay."""
    sibling = ServiceName(site="in-south", node="in-south-2", role=ServiceRole.BORDER)
    for name in (BORDER, SERVER, sibling):
        store.issue(name, NOW)
    gone = store.revoke("in-south/in-south-1")
    assert {entry.key for entry in gone} == {BORDER.key, SERVER.key}
    assert store.valid(BORDER, NOW) == []
    assert len(store.valid(sibling, NOW)) == 1
    listed = json.loads(store.revoked_file.read_bytes())["serials"]
    assert listed == [entry.serial for entry in gone]
    with pytest.raises(IdentityMissingError):
        store.revoke("in-south/in-south-1")


def test_an_expired_certificate_is_not_valid(store: IdentityStore) -> None:
    """Expiry counts from the entry, and is reported in days."""
    entry = store.issue(BORDER, NOW, days=10)
    assert entry.expires_in_days(NOW) == pytest.approx(10)
    assert store.valid(BORDER, NOW + timedelta(days=11)) == []


def test_ensure_issues_only_what_is_missing(store: IdentityStore) -> None:
    """Twice the same; another address makes another certificate, at once the current one."""
    first = store.ensure(SERVER, NOW, addresses=("127.0.0.1",))
    assert store.ensure(SERVER, NOW, addresses=("127.0.0.1",)) == first
    second = store.ensure(SERVER, NOW, addresses=("127.0.0.2",))
    assert (second.generation, second.state) == (2, State.CURRENT)


def test_ensure_never_issues_what_was_revoked(store: IdentityStore) -> None:
    """Only an explicit `issue` brings it back."""
    store.ensure(BORDER, NOW)
    store.revoke("in-south/in-south-1")
    with pytest.raises(IdentityRevokedError):
        store.ensure(BORDER, NOW)
    assert store.valid(BORDER, NOW) == []
    again = store.issue(BORDER, NOW)
    assert (again.state, store.ensure(BORDER, NOW)) == (State.CURRENT, again)


def test_a_second_authority_is_refused(store: IdentityStore) -> None:
    """It would cut off every node."""
    with pytest.raises(IdentityExistsError):
        store.init(NOW)


@pytest.mark.parametrize(
    ("site", "node", "role"),
    [
        ("in south", "a1", ServiceRole.BORDER),
        ("in.south", "a1", ServiceRole.BORDER),
        ("in-south", "*", ServiceRole.BORDER),
        ("in-south", "a>", ServiceRole.BORDER),
        ("hub", "hub-1", ServiceRole.BORDER),
        ("in-south", "in-south-1", ServiceRole.CONTROLPLANE),
    ],
)
def test_a_name_that_is_no_token_or_role_is_refused(site: str, node: str, role: ServiceRole) -> None:
    """Names become tokens of subjects and hosts."""
    with pytest.raises(IdentityNameError):
        ServiceName(site=site, node=node, role=role)


def test_a_damaged_index_is_an_error_of_ours(store: IdentityStore) -> None:
    """Names the file."""
    (store.root / "certificates.json").write_text('[{"key": 1}]')
    with pytest.raises(IdentityDamagedError, match="certificates"):
        store.entries()


def test_a_store_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    """With the command that makes it."""
    with pytest.raises(IdentityMissingError):
        IdentityStore(tmp_path).issue(BORDER, NOW)
