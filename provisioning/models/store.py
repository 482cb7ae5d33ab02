"""A directory of models: `<store>/<name>/model.json` and the files it names.

Owns how a model appears (whole or not at all) and how its bytes are checked; knows nothing of where they come from.
"""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from contract.model_manifest import (
    MANIFEST_NAME,
    MalformedManifestError,
    ModelFile,
    ModelManifest,
    dump_manifest,
    parse_manifest,
)
from provisioning.models.errors import ModelVerificationError

DEFAULT_STORE = Path(".state/models")
STORE_VARIABLE = "BOROUGH_MODEL_STORE"
_HASH_PIECE_BYTES = 1 << 20


def describe_file(path: Path) -> ModelFile:
    """Hash a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_HASH_PIECE_BYTES):
            digest.update(piece)
    return ModelFile(name=path.name, sha256=digest.hexdigest(), size_bytes=path.stat().st_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStore:
    """The models of one node."""

    root: Path

    def directory(self, name: str) -> Path:
        return self.root / name

    def names(self) -> list[str]:
        """Return the names of all models that are here."""
        return sorted(path.parent.name for path in self.root.glob(f"*/{MANIFEST_NAME}"))

    def manifest(self, name: str) -> ModelManifest:
        """Read a manifest. Raises ModelVerificationError when it is missing or malformed."""
        path = self.directory(name) / MANIFEST_NAME
        try:
            return parse_manifest(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ModelVerificationError(f"{path} is missing", hint=fetch_hint(name)) from error
        except (OSError, MalformedManifestError) as error:
            raise ModelVerificationError(f"{path}: {error}", hint=fetch_hint(name)) from error

    def verify(self, name: str) -> ModelManifest:
        """Hash every file of a model. Raises ModelVerificationError naming the first bad one."""
        manifest = self.manifest(name)
        for file in manifest.files:
            check_file(self.directory(name) / file.name, file, hint=fetch_hint(name))
        return manifest

    @contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Keep other processes from changing this model meanwhile."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f".{name}.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def install(self, name: str, build: Callable[[Path], ModelManifest]) -> ModelManifest:
        """Let `build` fill an empty directory, then give it the model's name; replaces what was there.

        The caller holds `lock`.
        """
        partial = Path(tempfile.mkdtemp(prefix=f".partial-{name}-", dir=self.root))
        try:
            manifest = build(partial)
            (partial / MANIFEST_NAME).write_text(dump_manifest(manifest), encoding="utf-8")
            partial.chmod(0o755)
            _sync(partial)
            self._replace(partial, self.directory(name))
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return manifest

    def _replace(self, partial: Path, target: Path) -> None:
        if target.exists():
            retired = Path(tempfile.mkdtemp(prefix=f".retired-{target.name}-", dir=self.root))
            target.rename(retired / target.name)
            partial.rename(target)
            shutil.rmtree(retired)
        else:
            partial.rename(target)
        _sync(self.root)


def fetch_hint(name: str) -> str:
    """Return the command that mends a model."""
    return f"borough models fetch {name}"


def check_file(path: Path, expected: ModelFile, *, hint: str) -> None:
    """Compare a file with what was promised. Raises ModelVerificationError."""
    if not path.is_file():
        raise ModelVerificationError(f"{path} is missing", hint=hint)
    size = path.stat().st_size
    if size != expected.size_bytes:
        word = "truncated" if size < expected.size_bytes else "too long"
        raise ModelVerificationError(f"{path} is {word}: {size} of {expected.size_bytes} bytes", hint=hint)
    found = describe_file(path).sha256
    if found != expected.sha256:
        raise ModelVerificationError(f"{path} has sha256 {found}, expected {expected.sha256}", hint=hint)


def _sync(directory: Path) -> None:
    for path in [*directory.iterdir(), directory]:
        if path.is_dir() and path != directory:
            continue
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
