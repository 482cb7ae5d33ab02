"""Makes what a right inventory needs: a signed build store, an authority, certificates, tokens, a hub that listens."""

import contextlib
import hashlib
import json
import shutil
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from tests.ansible.wrong_inventories import Place

STORE_FILES = ("asterisk.tar.zst", "debs.tar", "models.tar", "wheels.tar")


@contextlib.contextmanager
def made_in(root: Path) -> Iterator[Place]:
    """The hub listens inside the block."""
    with _listening() as hub, _bound() as closed:
        yield Place(
            store=_store(root / "store", root / "build.key"),
            store_key=_public(root / "build.key", root / "build.pub"),
            other_key=_public(_new_key(root / "other.key"), root / "other.pub"),
            torn_store=_torn(root, "models.tar"),
            partial_store=_partial(root, "debs.tar"),
            authority=_certificate(root / "hub" / "authority.pem", "authority"),
            other_authority=_certificate(root / "elsewhere" / "authority.pem", "another authority"),
            tokens=_tokens(root / "tokens", root / "hub" / "authority.pem"),
            enrolled=_identity(root / "enrolled", root, "in-south/in-south-1"),
            enrolled_elsewhere=_identity(root / "enrolled-elsewhere", root, "eu-central/eu-central-1"),
            expired=_identity(root / "expired", root, "in-south/in-south-1", days=-1),
            hub_port=hub,
            closed_port=closed,
            cpu=_cpu(root / "cpu", "fpu sse4_2 avx avx2"),
            old_cpu=_cpu(root / "old-cpu", "fpu sse4_2 avx"),
        )


@contextlib.contextmanager
def _listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0), backlog=256) as server:
        yield server.getsockname()[1]


@contextlib.contextmanager
def _bound() -> Iterator[int]:
    """A port that nobody else can listen on, and nobody does."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def _store(store: Path, key: Path) -> Path:
    store.mkdir()
    for name in STORE_FILES:
        (store / name).write_text(name, encoding="utf-8")
    files = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "bytes": len(name)} for name in STORE_FILES
    ]
    models = [{"name": name} for name in ("whisper-tiny.en", "silero-vad", "")]
    manifest = json.dumps({"version": "0.1.0", "files": files, "models": models}).encode()
    (store / "manifest.json").write_bytes(manifest)
    _new_key(key)
    (store / "manifest.json.sig").write_bytes(_load(key).sign(manifest))
    return store


def _torn(root: Path, name: str) -> Path:
    copy = shutil.copytree(root / "store", root / "torn")
    (copy / name).write_text("not what was built", encoding="utf-8")
    return copy


def _partial(root: Path, name: str) -> Path:
    copy = shutil.copytree(root / "store", root / "partial")
    (copy / name).unlink()
    return copy


def _new_key(path: Path) -> Path:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(pem)
    return path


def _load(path: Path) -> Ed25519PrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


def _public(key: Path, path: Path) -> Path:
    pem = _load(key).public_key()
    path.write_bytes(pem.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    return path


def _certificate(path: Path, name: str, *, uri: str | None = None, days: int = 30) -> Path:
    key: CertificateIssuerPrivateKeyTypes = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    end = datetime.now(UTC) + timedelta(days=days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - timedelta(days=60))
        .not_valid_after(end)
    )
    if uri is not None:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(builder.sign(key, None).public_bytes(serialization.Encoding.PEM))
    return path


def _identity(root: Path, place: Path, name: str, *, days: int = 30) -> Path:
    """The folder of an enrolled machine."""
    _certificate(root / "agent" / "current" / "certificate.pem", "agent", uri=f"borough://{name}/agent/1", days=days)
    shutil.copy(place / "hub" / "authority.pem", root / "authority.pem")
    return root


def _tokens(root: Path, authority: Path) -> Path:
    root.mkdir()
    der = x509.load_pem_x509_certificate(authority.read_bytes())
    mark = der.fingerprint(hashes.SHA256()).hex()[:32]
    soon, ago = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) - timedelta(hours=1)
    right = {
        "token": f"bo1.id1.secret2.{mark}",
        "region": "in-south",
        "node": "in-south-1",
        "expires_at": soon.isoformat(),
    }
    changes: dict[str, dict[str, object]] = {
        "right": {},
        "expired": {"expires_at": ago.isoformat()},
        "region": {"region": "eu-central"},
        "node": {"node": "in-south-9"},
        "noise": {"token": "bo1.noise"},
    }
    for name, change in changes.items():
        (root / f"{name}.json").write_text(json.dumps({**right, **change}), encoding="utf-8")
    return root


def _cpu(path: Path, flags: str) -> Path:
    path.write_text(f"processor\t: 0\nflags\t\t: {flags}\n", encoding="utf-8")
    return path
