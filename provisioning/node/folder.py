"""The folder /etc/borough/rendered: compares, writes, and has services take over what changed."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from provisioning.node.errors import RenderError
from provisioning.node.machine import RENDERED, GroupId, Machine
from provisioning.node.rendering import RenderedFile

FILE_MODE = 0o640
FOLDER_MODE = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A file that is not as it was; `before` is None for a new one, `after` for one that is gone."""

    path: Path
    unit: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class RenderedFolder:
    """The folder on one machine."""

    machine: Machine

    @property
    def path(self) -> Path:
        return self.machine.at(RENDERED)

    def changes(self, files: Sequence[RenderedFile]) -> list[Change]:
        """What differs from the files on disk, those that are there and should not be included."""
        wanted = {file.path: file for file in files}
        changes = []
        for path, file in wanted.items():
            before = _read(self.path / path)
            if before != file.text:
                changes.append(Change(path=RENDERED / path, unit=file.unit, before=before, after=file.text))
        for path in sorted(self._present() - set(wanted)):
            before = _read(self.path / path)
            changes.append(Change(path=RENDERED / path, unit="", before=before, after=None))
        return changes

    def write(self, files: Sequence[RenderedFile], group_id: GroupId) -> None:
        """Write what differs and remove what is too many; each file is whole at every moment. Raises RenderError."""
        changed = {change.path for change in self.changes(files)}
        try:
            self._make_folder(self.path)
            for file in files:
                gid = group_id(file.group)
                target = self.path / file.path
                self._make_folder(target.parent)
                if RENDERED / file.path in changed:
                    _replace(target, file.text)
                _guard(target, gid)
            for path in self._present() - {file.path for file in files}:
                (self.path / path).unlink()
        except OSError as error:
            raise RenderError(f"{error.filename}: {error.strerror}") from error

    def _present(self) -> set[str]:
        return {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file()}

    @staticmethod
    def _make_folder(path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(FOLDER_MODE)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RenderError(f"{path}: {error.strerror}") from error


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)


def _guard(path: Path, gid: int | None) -> None:
    status = path.stat()
    if gid is not None and (status.st_uid, status.st_gid) != (0, gid):
        shutil.chown(path, 0, gid)
    if status.st_mode & 0o7777 != FILE_MODE:
        path.chmod(FILE_MODE)
