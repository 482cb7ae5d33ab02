"""Verifies the audit chain of a tenant, and the calls that it vouches for. Reads only; every function blocks."""

import contextlib
import hmac
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import apsw

from edge.records.audit import AuditAction, digest_turns, genesis, link
from edge.records.database import (
    DatabaseSettings,
    database_path,
    key_database_path,
    master_key_path,
    open_reader,
)
from edge.records.errors import AuditMissingError, MasterKeyError, from_sqlite
from edge.records.keyring import anchor_message
from edge.records.master_key import MasterKeys

LAST_DIGESTS = """
SELECT target, CASE WHEN json_valid(detail) THEN detail ->> '$.turns' END,
  CASE WHEN json_valid(detail) THEN detail ->> '$.contents' END
FROM audit WHERE seq IN (SELECT max(seq) FROM audit WHERE action IN (?, ?) GROUP BY target)
"""
ERASED = "SELECT target FROM audit WHERE action = ?"


class AnchorState(StrEnum):
    """What the note of the chain's end in the key database says.

    HOLDS: the noted entry is in the chain. CUT: it is not. FORGED: the note's signature is not of a master key of this
    node. UNSIGNED: there are no master keys here to check it with; the noted entry is in the chain. ABSENT: there is no
    note, though one is made before the first entry.
    """

    HOLDS = "holds"
    CUT = "cut"
    FORGED = "forged"
    UNSIGNED = "unsigned"
    ABSENT = "absent"


class Verdict(StrEnum):
    """UNVERIFIED: nothing was found to be wrong, but whether the end was cut cannot be known here."""

    WHOLE = "whole"
    UNVERIFIED = "cannot be verified here"
    BROKEN = "BROKEN"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """What was found. `first_broken` is the number of the first entry that does not follow from those before it."""

    tenant: str
    entries: int
    first_broken: int | None
    anchor: AnchorState
    anchored_seq: int | None
    altered_calls: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        if self.first_broken is not None or self.anchor in {AnchorState.CUT, AnchorState.FORGED} or self.altered_calls:
            return Verdict.BROKEN
        return Verdict.WHOLE if self.anchor is AnchorState.HOLDS else Verdict.UNVERIFIED

    @property
    def is_whole(self) -> bool:
        return self.verdict is Verdict.WHOLE


def verify(directory: Path, tenant: str, settings: DatabaseSettings) -> AuditReport:
    """Verify one tenant's chain. Raises RecordsError."""
    path = database_path(directory, tenant)
    if not path.exists():
        raise AuditMissingError(f"{path} does not exist")
    keys = key_database_path(directory, tenant, settings)
    try:
        # Before the chain: workers go on, and the chain may only have grown since this was noted.
        note = _read_anchor(keys, settings) if keys.exists() else None
        with contextlib.closing(open_reader(path, settings)) as connection:
            connection.execute("BEGIN")  # one moment for all that is read
            return _verify(connection, tenant, note, master_key_path(directory, settings))
    except apsw.Error as error:
        raise from_sqlite(error, path) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    """The chain's end as the key database has it."""

    seq: int
    hash: bytes
    at_ms: int
    master_id: str
    mac: bytes


def _verify(connection: apsw.Connection, tenant: str, note: _Note | None, master_key: Path) -> AuditReport:
    entries, first_broken = _walk(connection, tenant)
    return AuditReport(
        tenant=tenant,
        entries=entries,
        first_broken=first_broken,
        anchor=AnchorState.ABSENT if note is None else _judge(connection, tenant, note, master_key),
        anchored_seq=None if note is None else note.seq,
        altered_calls=_altered_calls(connection),
    )


def _walk(connection: apsw.Connection, tenant: str) -> tuple[int, int | None]:
    """How many entries there are, and the first that does not follow."""
    count, last, before = 0, 0, genesis(tenant)
    first_broken: int | None = None
    rows = connection.execute("SELECT seq, at, actor, action, target, detail, previous, hash FROM audit ORDER BY seq")
    for seq, at, actor, action, target, detail, previous, digest in rows:
        count += 1
        expected = link(before, (int(str(seq)), int(str(at)), str(actor), str(action), str(target), str(detail)))
        if first_broken is None and (seq != last + 1 or previous != before or digest != expected):
            first_broken = int(str(seq))
        last, before = int(str(seq)), bytes(digest)
    return count, first_broken


def _judge(connection: apsw.Connection, tenant: str, note: _Note, master_key: Path) -> AnchorState:
    found = connection.execute("SELECT hash FROM audit WHERE seq = ?", (note.seq,)).get
    if found != note.hash and not (note.seq == 0 and note.hash == genesis(tenant)):
        return AnchorState.CUT
    message = anchor_message(tenant, note.seq, note.hash, note.at_ms)
    try:
        signature = MasterKeys.load(master_key).sign(note.master_id, message)
    except MasterKeyError:
        return AnchorState.UNSIGNED
    except KeyError:  # whoever forges a note can name a key that nobody has
        return AnchorState.FORGED
    return AnchorState.HOLDS if hmac.compare_digest(signature, note.mac) else AnchorState.FORGED


def _read_anchor(path: Path, settings: DatabaseSettings) -> _Note | None:
    with contextlib.closing(open_reader(path, settings)) as keys:
        for seq, digest, at, master_id, mac in keys.execute("SELECT seq, hash, at, master_id, mac FROM audit_anchor"):
            return _Note(
                seq=int(str(seq)), hash=bytes(digest), at_ms=int(str(at)), master_id=str(master_id), mac=bytes(mac)
            )
    return None


def _altered_calls(connection: apsw.Connection) -> tuple[str, ...]:
    """Calls whose turns are not those that were entered when the call ended (or was last amended)."""
    entered = connection.execute(LAST_DIGESTS, (AuditAction.CALL_ENDED, AuditAction.CALL_AMENDED)).fetchall()
    erased = {str(target) for (target,) in connection.execute(ERASED, (AuditAction.CALL_ERASED,))}
    altered = []
    for call_id, turns, contents in entered:
        digests = digest_turns(connection, str(call_id))
        is_gone_by_right = str(call_id) in erased
        if (turns, contents) != (digests.turns, digests.contents) and not is_gone_by_right:
            altered.append(str(call_id))
    return tuple(sorted(altered))
