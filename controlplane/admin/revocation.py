"""Which certificates were withdrawn: a JSON file that provisioning writes, looked at again whenever it changes."""

import json
from pathlib import Path

from controlplane.errors import RevocationListError


class RevocationList:
    """Serial numbers of revoked certificates. A file that does not exist revokes nobody."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._serials: frozenset[int] = frozenset()

    def is_revoked(self, serial: int) -> bool:
        """Raises RevocationListError when the file cannot be understood."""
        if self._path is None:
            return False
        try:
            found = self._path.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp != self._stamp:
                self._serials = _read(self._path)
                self._stamp = stamp
        except FileNotFoundError:
            return False
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RevocationListError(f"{self._path}: {error}") from error
        return serial in self._serials


def _read(path: Path) -> frozenset[int]:
    return frozenset(int(serial, 16) for serial in json.loads(path.read_text(encoding="utf-8"))["serials"])
