"""The sync folder of a node: bundles on disk, and which one is current. Every method blocks; call them in a thread.

A bundle is unpacked beside its place, synced to disk, renamed into it, and only then made current by one rename of a
symlink. Whatever moment the process dies in, `current` names a whole bundle; leftovers are removed at the next start.

Layout: `bundles/<version>/{bundle.pb,region.yaml,roster.json,cordoned,<tenant>/*.yaml}`, `current` ->
`bundles/<version>`, `knowledge/`, `running/<worker>.{json,lock}`, `acks/`, `downloads/`, `rollups.db`.
`roster.json` and `cordoned` are there where the bundle says so (membership.py).
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import structlog

from edge.sync.backing import backing_files
from edge.sync.bundle import BundleReader, CheckedBundle, file_name
from edge.sync.cordon import ISOLATED_FILE
from edge.sync.errors import RefusedError
from edge.sync.membership import ROSTER_FILE, roster_files

log = structlog.get_logger(__name__)

MESSAGE_FILE = "bundle.pb"
_INCOMING = ".incoming-"
_NEXT = ".current-next"


class SyncFolder:
    """What the node agent keeps for the workers of its node."""

    def __init__(self, root: Path, *, node: str, bundles_kept: int) -> None:
        self.root = root
        self._node = node
        self.bundles = root / "bundles"
        self.knowledge = root / "knowledge"
        self.running = root / "running"
        self.downloads = root / "downloads"
        self.acks = root / "acks"
        self.rollups = root / "rollups.db"
        self.isolated = root / ISOLATED_FILE
        self.roster = root / "current" / ROSTER_FILE
        self._kept = bundles_kept

    def prepare(self) -> None:
        """Make the folders, and clear away what a dying process left."""
        shutil.rmtree(self.downloads, ignore_errors=True)
        for folder in (self.bundles, self.knowledge, self.running, self.downloads, self.acks):
            folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.bundles.glob(f"{_INCOMING}*"):
            shutil.rmtree(leftover)
        (self.root / _NEXT).unlink(missing_ok=True)

    def recover(self, reader: BundleReader) -> int:
        """Make the newest bundle current that still verifies and is whole, the running one first; 0 when there is none.

        A bundle whose files differ from its signed message is unpacked again.
        """
        candidates = [self.current(), *sorted(self.versions(), reverse=True)]
        for version in dict.fromkeys(candidate for candidate in candidates if candidate):
            try:
                bundle = reader.open((self._place(version) / MESSAGE_FILE).read_bytes(), newer_than=version - 1)
            except (OSError, RefusedError) as error:
                log.warning("bundle_damaged", bundle=version, detail=type(error).__name__)
                continue
            if bundle.version == version:
                if not self._is_whole(bundle):
                    log.warning("bundle_unpacked_again", bundle=version)
                    self.install(bundle)
                if version != self.current():
                    self.activate(version)
                return version
        return 0

    def current(self) -> int:
        """The version that workers are to run, 0 when there is none."""
        try:
            name = Path(os.readlink(self.root / "current")).name  # noqa: PTH115 - relative, as it stands
        except OSError:
            return 0
        return int(name) if name.isdecimal() else 0

    def versions(self) -> list[int]:
        """The bundles on disk, oldest first."""
        return sorted(int(path.name) for path in self.bundles.iterdir() if path.name.isdecimal())

    def before(self, version: int) -> int:
        """The newest bundle on disk older than `version`, 0 when there is none."""
        return max((found for found in self.versions() if found < version), default=0)

    def message(self, version: int) -> bytes:
        """The message of a bundle, as it was received. Raises OSError."""
        return (self._place(version) / MESSAGE_FILE).read_bytes()

    @contextlib.contextmanager
    def unpacked(self, bundle: CheckedBundle) -> Iterator[Path]:
        """A bundle beside its place, synced to disk, gone again unless it is adopted. Raises OSError."""
        try:
            yield self._unpack(bundle)
        finally:
            shutil.rmtree(self._incoming(bundle.version), ignore_errors=True)

    def install(self, bundle: CheckedBundle) -> None:
        """Unpack a bundle into its place. Raises OSError."""
        with self.unpacked(bundle) as unpacked:
            self.adopt(unpacked, bundle.version)

    def adopt(self, unpacked: Path, version: int) -> None:
        """Move an unpacked bundle into its place. Raises OSError."""
        place = self._place(version)
        if place.exists():
            shutil.rmtree(place)
        unpacked.rename(place)
        _sync_folder(self.bundles)

    def activate(self, version: int) -> None:
        """Swap `current`; workers see it at once. Raises OSError."""
        link = self.root / _NEXT
        link.unlink(missing_ok=True)
        link.symlink_to(f"bundles/{version}")
        link.replace(self.root / "current")
        _sync_folder(self.root)

    def prune(self) -> None:
        """Remove bundles beyond those kept, never the current one."""
        for version in self.versions()[: -self._kept]:
            if version != self.current():
                self.remove(version)

    def remove(self, version: int) -> None:
        """Remove a bundle that is not current."""
        shutil.rmtree(self._place(version), ignore_errors=True)

    def _unpack(self, bundle: CheckedBundle) -> Path:
        incoming = self._incoming(bundle.version)
        shutil.rmtree(incoming, ignore_errors=True)
        incoming.mkdir()
        for path, content in self._files(bundle):
            target = incoming / path
            target.parent.mkdir(exist_ok=True)
            _write_synced(target, content)
        for folder in (*(path for path in incoming.iterdir() if path.is_dir()), incoming):
            _sync_folder(folder)
        return incoming

    def _place(self, version: int) -> Path:
        return self.bundles / str(version)

    def _incoming(self, version: int) -> Path:
        return self.bundles / f"{_INCOMING}{version}"

    def _is_whole(self, bundle: CheckedBundle) -> bool:
        place = self._place(bundle.version)
        wanted = dict(self._files(bundle))
        found = {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()}
        return found == set(wanted) and all((place / path).read_bytes() == content for path, content in wanted.items())

    def _files(self, bundle: CheckedBundle) -> Iterator[tuple[str, bytes]]:
        yield MESSAGE_FILE, bundle.message
        yield from roster_files(bundle.roster, self._node)
        yield from backing_files(bundle.backings)
        for document in bundle.documents:
            yield file_name(document), document.yaml


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file so that it is whole at every moment, also after a power cut. Raises OSError."""
    partial = path.with_name(f".{path.name}.partial")
    _write_synced(partial, content)
    partial.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
