"""The node's master keys: a file that wraps the keys of data subjects and signs audit anchors.

One key a line, 64 hexadecimal digits; `#` starts a comment. The first wraps, all of them unwrap: that is how a key is
rotated, and how a sibling is enabled to read what it restored of a lost node (its key as a further line).
"""

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from edge.records.errors import MasterKeyError
from edge.records.sealing import KEY_BYTES, seal, unseal

ID_CHARACTERS = 16
OPEN_TO_OTHERS = 0o077
# systemd hands a credential over by an access list, whose mask stat shows as the group's right to read.
OPEN_CREDENTIAL = 0o037


@dataclass(frozen=True, slots=True, kw_only=True)
class MasterKeys:
    """The keys of a file, by the name that wrapped keys carry."""

    current: str
    keys: dict[str, bytes]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a file. Raises MasterKeyError."""
        try:
            if path.stat().st_mode & (OPEN_CREDENTIAL if _is_credential(path) else OPEN_TO_OTHERS):
                raise MasterKeyError(f"{path} can be read by others")
            lines = [line.split("#")[0].strip() for line in path.read_text(encoding="ascii").splitlines()]
            keys = {_name(key): key for key in (bytes.fromhex(line) for line in lines if line)}
        except (OSError, ValueError) as error:
            raise MasterKeyError(f"{path}: {error}") from error
        if not keys or any(len(key) != KEY_BYTES for key in keys.values()):
            raise MasterKeyError(f"{path} must hold keys of {2 * KEY_BYTES} hexadecimal digits, one a line")
        return cls(current=next(iter(keys)), keys=keys)

    def wrap(self, key: bytes, bound: bytes) -> bytes:
        """Encrypt a subject's key with the current master key."""
        return seal(self.keys[self.current], key, bound)

    def unwrap(self, master_id: str, wrapped: bytes, bound: bytes) -> bytes:
        """Decrypt a subject's key. Raises KeyError for a master key that is not here, SealBrokenError."""
        return unseal(self.keys[master_id], wrapped, bound)

    def sign(self, master_id: str, message: bytes) -> bytes:
        """HMAC with a key that is derived for signing only. Raises KeyError."""
        purpose = hmac.new(self.keys[master_id], b"borough audit anchor", hashlib.sha256).digest()
        return hmac.new(purpose, message, hashlib.sha256).digest()


def ensure_master_key(path: Path) -> None:
    """Make a file with one random key where there is none; several processes may try at once."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link, and not a rename: the first to come wins, nobody's key is replaced after it was used.
        try:
            os.link(draft, path)
        except FileExistsError:
            return
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _is_credential(path: Path) -> bool:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return folder is not None and path.is_relative_to(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(key: bytes) -> str:
    return hashlib.sha256(b"borough master key" + key).hexdigest()[:ID_CHARACTERS]
