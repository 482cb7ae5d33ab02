"""Reads and verifies model directories before they are loaded.

A digest once computed is remembered beside the files by (size, modification time, inode), so that a start does not
read hundreds of megabytes again; `borough models verify` always reads everything.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from contract.model_manifest import (
    MANIFEST_NAME,
    MalformedManifestError,
    ModelFile,
    ModelKind,
    ModelManifest,
    parse_manifest,
)
from edge.inference.errors import ModelLoadError

_SIDECAR_NAME = ".verified.json"
_HASH_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedModel:
    """A model directory whose files are exactly those of its manifest."""

    directory: Path
    manifest: ModelManifest

    def file(self, suffix: str) -> Path:
        """Return the file whose name ends so. Raises ModelLoadError."""
        for file in self.manifest.files:
            if file.name.endswith(suffix):
                return self.directory / file.name
        raise ModelLoadError(f"{self.directory} has no *{suffix} file", hint=_hint(self.manifest.name))


def open_model(store: Path, name: str, kind: ModelKind) -> VerifiedModel:
    """Verify a model. Raises ModelLoadError naming the file and the command that mends it."""
    directory = store / name
    path = directory / MANIFEST_NAME
    try:
        manifest = parse_manifest(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelLoadError(f"{path} is missing", hint=_hint(name)) from error
    except (OSError, MalformedManifestError) as error:
        raise ModelLoadError(f"{path}: {error}", hint=_hint(name)) from error
    if manifest.kind is not kind:
        raise ModelLoadError(f"{name} is a model for {manifest.kind}, not {kind}", hint="borough models list")
    _verify(directory, manifest)
    return VerifiedModel(directory=directory, manifest=manifest)


def _hint(name: str) -> str:
    return f"borough models fetch {name}"


def _verify(directory: Path, manifest: ModelManifest) -> None:
    known = _read_sidecar(directory)
    found: dict[str, str] = {}
    for file in manifest.files:
        key = _check_size(directory / file.name, file, manifest.name)
        digest = known.get(key) or _hash(directory / file.name)
        if digest != file.sha256:
            path = directory / file.name
            raise ModelLoadError(f"{path} has sha256 {digest}, expected {file.sha256}", hint=_hint(manifest.name))
        found[key] = digest
    if found != known:
        # A store that is mounted read-only is fine: then every start hashes.
        with contextlib.suppress(OSError):
            (directory / _SIDECAR_NAME).write_text(json.dumps(found), encoding="utf-8")


def _check_size(path: Path, file: ModelFile, name: str) -> str:
    try:
        status = path.stat()
    except OSError as error:
        raise ModelLoadError(f"{path} is missing", hint=_hint(name)) from error
    if status.st_size != file.size_bytes:
        word = "truncated" if status.st_size < file.size_bytes else "too long"
        raise ModelLoadError(f"{path} is {word}: {status.st_size} of {file.size_bytes} bytes", hint=_hint(name))
    return f"{file.name}:{status.st_size}:{status.st_mtime_ns}:{status.st_ino}"


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_HASH_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _read_sidecar(directory: Path) -> dict[str, str]:
    try:
        known = json.loads((directory / _SIDECAR_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {str(key): str(value) for key, value in known.items()}
