"""What a build store says about itself: manifest.json, SHA256SUMS and the signature; writing them and checking them.

manifest.json       version, commit, time, the Python of nodes, files, packages, models, the Asterisk image
manifest.json.sig   Ed25519 over the bytes of manifest.json (64 raw bytes, as openssl makes and checks them)
SHA256SUMS          for `sha256sum --check`
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from provisioning.build_store.archive import sha256_of
from provisioning.build_store.errors import BuildHostError, StoreDamagedError, StoreSignatureError

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
SUMS = "SHA256SUMS"
SBOM = "sbom.cdx.json"

_REBUILD = "copy the store again from the build host, or make it anew: borough build --out DIR"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """One file of a store."""

    name: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """One thing that a store brings: a Python or Debian package, a model. `where` is the archive that carries it."""

    kind: str
    name: str
    version: str
    licence: str
    sha256: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A whole store."""

    version: str
    commit: str
    created_at: str
    python: str
    files: tuple[StoredFile, ...]
    packages: tuple[Component, ...]
    models: tuple[Component, ...]
    asterisk: dict[str, str]


def describe_file(path: Path) -> StoredFile:
    """Hash a file of a store."""
    return StoredFile(name=path.name, sha256=sha256_of(path), bytes=path.stat().st_size)


def write_manifest(manifest: Manifest, directory: Path, sign_key: Path | None) -> None:
    """Write manifest.json, SHA256SUMS and, where a key is given, the signature. Raises BuildHostError."""
    text = json.dumps(asdict(manifest), indent=1, sort_keys=True) + "\n"
    (directory / MANIFEST).write_text(text, encoding="utf-8")
    files = sorted([*manifest.files, describe_file(directory / MANIFEST)], key=lambda one: one.name)
    sums = "".join(f"{file.sha256}  {file.name}\n" for file in files)
    (directory / SUMS).write_text(sums, encoding="utf-8")
    (directory / SIGNATURE).unlink(missing_ok=True)
    if sign_key is not None:
        (directory / SIGNATURE).write_bytes(_private_key(sign_key).sign(text.encode()))


def seal_again(directory: Path, sign_key: Path | None, *, version: str = "") -> Manifest:
    """Take a store whose archives were changed on purpose for what it is now. Raises BuildError."""
    found = read_manifest(directory)
    files = tuple(describe_file(directory / file.name) for file in found.files)
    sealed = replace(found, files=files, version=version or found.version)
    write_manifest(sealed, directory, sign_key)
    return sealed


def read_manifest(directory: Path) -> Manifest:
    """Read manifest.json. Raises StoreDamagedError."""
    try:
        fields: dict[str, Any] = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        fields["files"] = tuple(StoredFile(**one) for one in fields["files"])
        fields["packages"] = tuple(Component(**one) for one in fields["packages"])
        fields["models"] = tuple(Component(**one) for one in fields["models"])
        return Manifest(**fields)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreDamagedError(f"{directory / MANIFEST}: {error}", hint=_REBUILD) from error


def verify_store(directory: Path, public_key: Path | None = None) -> Manifest:
    """Check a store's signature (where a key is given) and hash every file.

    Raises StoreSignatureError or StoreDamagedError naming the first file that is wrong.
    """
    if public_key is not None:
        _check_signature(directory, public_key)
    manifest = read_manifest(directory)
    for file in manifest.files:
        path = directory / file.name
        if Path(file.name).name != file.name or not path.is_file():
            raise StoreDamagedError(f"{path} is missing", hint=_REBUILD)
        size = path.stat().st_size
        if size != file.bytes:
            raise StoreDamagedError(f"{path} has {size} of {file.bytes} bytes", hint=_REBUILD)
        if sha256_of(path) != file.sha256:
            raise StoreDamagedError(
                f"{path} is not the file that the manifest names: its sha256 differs", hint=_REBUILD
            )
    return manifest


def _check_signature(directory: Path, public_key: Path) -> None:
    hint = "use the public key of whoever built the store, or build and sign it anew: borough build --sign-key"
    try:
        signature = (directory / SIGNATURE).read_bytes()
        _public_key(public_key).verify(signature, (directory / MANIFEST).read_bytes())
    except FileNotFoundError as error:
        raise StoreSignatureError(f"{error.filename} is missing", hint=hint) from error
    except InvalidSignature as error:
        raise StoreSignatureError(f"{directory / SIGNATURE} was not made with {public_key}", hint=hint) from error


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _no_key(path, str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "another kind of key")
    return key


def _public_key(path: Path) -> Ed25519PublicKey:
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _no_key(path, str(error)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "another kind of key")
    return key


def _no_key(path: Path, why: str) -> BuildHostError:
    hint = f"openssl genpkey -algorithm ed25519 -out {path}; its public half: openssl pkey -pubout"
    return BuildHostError(f"{path} is no Ed25519 key in PEM: {why}", hint=hint)
