"""Personal content between records and rows: sealed with the data subject's key when written, opened when read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import apsw

from edge.records.database import Cell, DatabaseSettings, load_migrations, open_database
from edge.records.keyring import KeyErasedError, KeyId, KeyMissingError, KeyReader, Keyring
from edge.records.model import ContentState
from edge.records.sealing import Place, SealBrokenError, seal, unseal
from edge.records.subjects import SubjectId

TURN_TEXTS = ("caller_text", "agent_text")
DESTINATION = "destination"
STATE = "state"


def state_place(tenant: str, call_id: str) -> Place:
    """Where the state of a running call belongs."""
    return Place(tenant=tenant, call_id=call_id, seq=0, column=STATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """Texts of one row, and the name of the key that opens them."""

    key_id: KeyId
    texts: tuple[bytes, ...]


def places(tenant: str, call_id: str, seq: int, columns: Sequence[str]) -> tuple[Place, ...]:
    """Where the texts of a row belong."""
    return tuple(Place(tenant=tenant, call_id=call_id, seq=seq, column=column) for column in columns)


def seal_texts(keyring: Keyring, subject: SubjectId, where: Sequence[Place], texts: Sequence[str]) -> Sealed:
    """Seal each text for its place with the subject's key."""
    key = keyring.one(subject)
    sealed = tuple(seal(key.secret, text.encode(), place.bound()) for place, text in zip(where, texts, strict=True))
    return Sealed(key_id=key.key_id, texts=sealed)


def open_texts(
    keys: KeyReader, key_id: Cell, sealed: Sequence[Cell], where: Sequence[Place]
) -> tuple[ContentState, tuple[str, ...]]:
    """The texts, or why they cannot be read (they are empty then)."""
    if not isinstance(key_id, str):
        return ContentState.ABSENT, tuple("" for _ in where)
    try:
        return ContentState.READABLE, _open(keys, KeyId(key_id), sealed, where)
    except KeyErasedError:
        state = ContentState.ERASED
    except KeyMissingError:
        state = ContentState.SEALED
    except SealBrokenError:
        state = ContentState.DAMAGED
    return state, tuple("" for _ in where)


def _open(keys: KeyReader, key_id: KeyId, sealed: Sequence[Cell], where: Sequence[Place]) -> tuple[str, ...]:
    secret = keys.secret(key_id)
    return tuple(
        unseal(secret, _bytes(text), place.bound()).decode() for text, place in zip(sealed, where, strict=True)
    )


def _bytes(value: Cell) -> bytes:
    if not isinstance(value, bytes):
        raise SealBrokenError(f"expected sealed bytes, the column holds {type(value).__name__}")
    return value


def open_records(path: Path, tenant: str, settings: DatabaseSettings, keyring: Keyring) -> apsw.Connection:
    """Open a tenant's records for writing; rows of before they were sealed are sealed. Raises apsw.Error or
    RecordsError."""

    def prepare(connection: apsw.Connection) -> None:
        register_sealing(connection, tenant, keyring)

    return open_database(path, settings, load_migrations(), prepare)


def register_sealing(connection: apsw.Connection, tenant: str, keyring: Keyring) -> None:
    """Give a connection the functions that migration 0003 seals plain rows with."""

    def subject_key(*arguments: Cell) -> Cell:
        (subject,) = arguments
        return keyring.one(SubjectId(str(subject))).key_id

    def seal_text(*arguments: Cell) -> Cell:
        subject, call_id, seq, column, text = arguments
        place = Place(tenant=tenant, call_id=str(call_id), seq=int(str(seq)), column=str(column))
        return seal(keyring.one(SubjectId(str(subject))).secret, str(text).encode(), place.bound())

    connection.create_scalar_function("subject_key", subject_key, 1)
    connection.create_scalar_function("seal", seal_text, 5)
