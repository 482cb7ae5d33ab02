"""The keys of one tenant's data subjects, each wrapped by the node's master key, in a database of their own.

Their own file, because it is replicated apart and kept for a short time only: destroying a key there is what makes a
person's content unreadable in every copy of the records. `secure_delete` overwrites a destroyed key in the file.

A key is committed here before any content that it seals is committed in the records. Workers keep keys in memory;
another process's change of the database (a key destroyed) empties that memory before the next group is written.
"""

import hmac
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NewType

import apsw

from edge.records.database import (
    DatabaseSettings,
    Immediate,
    key_database_path,
    load_migrations,
    master_key_path,
    open_database,
    open_reader,
)
from edge.records.errors import MasterKeyError, StoreDamagedError
from edge.records.master_key import MasterKeys, ensure_master_key
from edge.records.overwriting import overwrite
from edge.records.sealing import KEY_BYTES, SealBrokenError
from edge.records.subjects import SubjectId

KeyId = NewType("KeyId", str)

KEY_ID_BYTES = 16
SELECT_DESTROYED = "SELECT key_id, wrapped FROM subject_keys WHERE subject_id = ? AND destroyed_at IS NULL"
DESTROY = "UPDATE subject_keys SET wrapped = NULL, destroyed_at = ? WHERE subject_id = ? AND destroyed_at IS NULL"
REMEMBERED = 10_000  # keys in memory: about 3 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectKey:
    """A data subject's living key."""

    key_id: KeyId
    secret: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Destroyed:
    """Which keys are no more. `is_overwritten` is False while the WAL still holds one (wrapped): call again."""

    key_ids: tuple[KeyId, ...]
    is_overwritten: bool


class KeyErasedError(Exception):
    """The key was destroyed: what it sealed is gone."""


class KeyMissingError(Exception):
    """The key, or the master key that wraps it, is not on this node."""


class Keyring:
    """Makes, finds and destroys the keys of one tenant's subjects. Belongs to one thread."""

    def __init__(self, tenant: str, connection: apsw.Connection, masters: MasterKeys) -> None:
        self._tenant = tenant
        self._connection = connection
        self._masters = masters
        self._living: dict[SubjectId, SubjectKey] = {}
        self._seen_version = -1

    def refresh(self) -> None:
        """Forget remembered keys if another process changed the database; called before each group."""
        version = int(str(self._connection.pragma("data_version")))
        if version != self._seen_version or len(self._living) > REMEMBERED:
            self._living.clear()
            self._seen_version = version

    def living(self, subjects: Iterable[SubjectId]) -> dict[SubjectId, SubjectKey]:
        """The key of each subject; those that have none get one, all in one transaction."""
        missing = {subject for subject in subjects if subject not in self._living}
        if missing:
            self._find(missing)
            if strangers := [subject for subject in missing if subject not in self._living]:
                self._make(strangers)
        return self._living

    def one(self, subject: SubjectId) -> SubjectKey:
        """The living key of a subject, made if there is none."""
        return self.living([subject])[subject]

    def destroy(self, subject: SubjectId) -> Destroyed:
        """Destroy a subject's keys and overwrite them in the files. What they sealed can no more be read, here at once
        and in copies once their key databases have caught up. Blocks for seconds where Litestream owns the WAL."""
        self._living.pop(subject, None)
        with self._writing():
            found = self._connection.execute(SELECT_DESTROYED, (subject,)).fetchall()
            self._connection.execute(DESTROY, (_now_ms(), subject))
        is_overwritten = overwrite(self._connection, [wrapped for _, wrapped in found if isinstance(wrapped, bytes)])
        return Destroyed(key_ids=tuple(KeyId(str(key)) for key, _ in found), is_overwritten=is_overwritten)

    def anchor(self, seq: int, hash_: bytes, is_in_chain: Callable[[int, bytes], bool]) -> bool:
        """Note how far the audit chain reaches; False, and nothing is noted, if the older note is gone, was not signed
        with a key of ours, or names what the chain lacks.

        The older note stays as evidence then. The first note of all is made before the first entry.
        """
        with self._writing():
            note = self._connection.execute("SELECT seq, hash, at, master_id, mac FROM audit_anchor").fetchone()
            if note is None and seq > 0:
                return False
            if note is not None:
                old_seq, old_hash = int(str(note[0])), note[1]
                if not self._signed(note) or not isinstance(old_hash, bytes) or not is_in_chain(old_seq, old_hash):
                    return False
                if old_seq >= seq:  # another worker was faster
                    return True
            self.write_anchor(seq, hash_)
        return True

    def _signed(self, note: Sequence[object]) -> bool:
        seq, hash_, at, master_id, mac = note
        if not isinstance(hash_, bytes) or not isinstance(mac, bytes) or master_id not in self._masters.keys:
            return False
        message = anchor_message(self._tenant, int(str(seq)), hash_, int(str(at)))
        return hmac.compare_digest(self._masters.sign(str(master_id), message), mac)

    def write_anchor(self, seq: int, hash_: bytes) -> None:
        """Note a chain's end whatever was noted before: after a restore, which the chain then tells of."""
        at, master = _now_ms(), self._masters.current
        mac = self._masters.sign(master, anchor_message(self._tenant, seq, hash_, at))
        self._connection.execute(
            "INSERT OR REPLACE INTO audit_anchor VALUES (1, ?, ?, ?, ?, ?)", (seq, hash_, at, master, mac)
        )

    def close(self) -> None:
        self._living.clear()
        self._connection.close()

    def _find(self, subjects: Iterable[SubjectId]) -> None:
        sql = "SELECT key_id, master_id, wrapped FROM subject_keys WHERE subject_id = ? AND destroyed_at IS NULL"
        for subject in subjects:
            for key_id, master_id, wrapped in self._connection.execute(sql, (subject,)).fetchall():
                if master_id not in self._masters.keys:
                    continue  # a lost master key must not end recording: the subject gets another key
                secret = _unwrap(self._masters, self._tenant, KeyId(str(key_id)), str(master_id), wrapped)
                self._living[subject] = SubjectKey(key_id=KeyId(str(key_id)), secret=secret)

    def _make(self, subjects: Iterable[SubjectId]) -> None:
        with self._writing():
            self._find(subjects)  # another worker may have been faster
            for subject in subjects:
                if subject not in self._living:
                    self._living[subject] = self._insert(subject)

    def _insert(self, subject: SubjectId) -> SubjectKey:
        key = SubjectKey(key_id=KeyId(secrets.token_hex(KEY_ID_BYTES)), secret=secrets.token_bytes(KEY_BYTES))
        wrapped = self._masters.wrap(key.secret, _bound(self._tenant, key.key_id))
        self._connection.execute(
            "INSERT INTO subject_keys VALUES (?, ?, ?, ?, ?, NULL)",
            (key.key_id, subject, self._masters.current, wrapped, _now_ms()),
        )
        return key

    def _writing(self) -> Immediate:
        return Immediate(self._connection)


class KeyReader:
    """Finds keys by name, to read content; makes none. A node without the master key finds none."""

    def __init__(self, tenant: str, connection: apsw.Connection | None, masters: MasterKeys | None) -> None:
        self._tenant = tenant
        self._connection = connection
        self._masters = masters

    def secret(self, key_id: KeyId) -> bytes:
        """The key of this name. Raises KeyErasedError or KeyMissingError."""
        if self._connection is None:
            raise KeyMissingError("the key database is not here")
        sql = "SELECT master_id, wrapped FROM subject_keys WHERE key_id = ?"
        for master_id, wrapped in self._connection.execute(sql, (key_id,)).fetchall():
            if wrapped is None:
                raise KeyErasedError(key_id)
            if self._masters is None:
                raise KeyMissingError("there is no master key")
            try:
                return _unwrap(self._masters, self._tenant, key_id, str(master_id), wrapped)
            except StoreDamagedError as error:
                raise KeyMissingError(f"key {key_id} is damaged") from error
        raise KeyMissingError(key_id)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def open_keyring(directory: Path, tenant: str, settings: DatabaseSettings) -> Keyring:
    """Open a tenant's keys for writing. Raises apsw.Error or RecordsError."""
    masters_file = master_key_path(directory, settings)
    if settings.master_key_file is None:
        ensure_master_key(masters_file)
    masters = MasterKeys.load(masters_file)
    path = key_database_path(directory, tenant, settings)
    return Keyring(tenant, open_database(path, settings, load_migrations("key_migrations")), masters)


def open_key_reader(directory: Path, tenant: str, settings: DatabaseSettings) -> KeyReader:
    """Open a tenant's keys for reading; what is missing of them makes content unreadable, and is no error."""
    path = key_database_path(directory, tenant, settings)
    try:
        masters: MasterKeys | None = MasterKeys.load(master_key_path(directory, settings))
    except MasterKeyError:
        masters = None
    return KeyReader(tenant, open_reader(path, settings) if path.exists() else None, masters)


def anchor_message(tenant: str, seq: int, hash_: bytes, at_ms: int) -> bytes:
    """What the signature of an anchor covers."""
    return b"\x1f".join((tenant.encode(), str(seq).encode(), str(at_ms).encode(), hash_))


def _unwrap(masters: MasterKeys, tenant: str, key_id: KeyId, master_id: str, wrapped: object) -> bytes:
    if not isinstance(wrapped, bytes):
        raise TypeError("a wrapped key is bytes")
    try:
        return masters.unwrap(master_id, wrapped, _bound(tenant, key_id))
    except KeyError as error:
        raise KeyMissingError(f"master key {master_id} is not here") from error
    except SealBrokenError as error:
        raise StoreDamagedError(f"the wrapped key {key_id} of {tenant} was changed") from error


def _bound(tenant: str, key_id: KeyId) -> bytes:
    return f"{tenant}\x1f{key_id}".encode()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
