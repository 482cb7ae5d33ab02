"""One entry of the region's bucket of sessions: where a call stands, sealed, under a key that names no number. Pure.

The key names tenant, data subject (an HMAC of the number, edge/records/subjects.py) and a digest of the call. The value
is sealed with a key of the tenant that every node of the region derives from its subject key file, and bound to its
place, so that nothing can be moved to another caller's. It cannot be kept longer than the ring-back window, and is
deleted by its subject; so it needs no key of the subject's own, which siblings would not have.
"""

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import TypeAdapter, ValidationError

from contract.subjects import SESSIONS_BUCKET, key_value_subject, session
from edge.records.sealing import KEY_BYTES, SealBrokenError, seal, unseal
from edge.records.subjects import SubjectId

PURPOSE = b"borough sessions\x1f"
DIGEST_CHARACTERS = 16
ANY_CALL = "*"


class EntryStatus(StrEnum):
    """OPEN: the call runs, or its worker is gone. CUT_OFF: we ended it against the caller's will. RESUMED: a call of
    the caller's went on with it; where it stood is deleted."""

    OPEN = "open"
    CUT_OFF = "cut_off"
    RESUMED = "resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionPlace:
    """Whose call it is, in the bucket."""

    tenant: str
    subject_id: SubjectId
    call_digest: str

    @property
    def subject(self) -> str:
        """The NATS subject of the entry."""
        return key_value_subject(SESSIONS_BUCKET, session(self.tenant, self.subject_id, self.call_digest))

    def bound(self) -> bytes:
        """The bytes that are authenticated with the value."""
        return f"{self.tenant}\x1f{self.subject_id}\x1f{self.call_digest}".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEntry:
    """`node` and `run` have the call, or had it; `saved_ms` is UTC since 1970; `state` is an encoded SavedCall."""

    call_id: str
    node: str
    run: str
    saved_ms: int
    status: EntryStatus = EntryStatus.OPEN
    state: str = ""
    resumed_as: str = ""

    def resumed(self, call_id: str) -> "SessionEntry":
        """The entry once a call went on with it: no word of the conversation is left."""
        return replace(self, status=EntryStatus.RESUMED, state="", resumed_as=call_id)


def place_of(tenant: str, subject_id: SubjectId, call_id: str) -> SessionPlace:
    """Where a call's entry is."""
    digest = hashlib.sha256(call_id.encode()).hexdigest()[:DIGEST_CHARACTERS]
    return SessionPlace(tenant=tenant, subject_id=subject_id, call_digest=digest)


def place_at(subject: str) -> SessionPlace:
    """The place of a NATS subject of the bucket. Raises ValueError."""
    *_, tenant, subject_id, digest = subject.split(".")
    return SessionPlace(tenant=tenant, subject_id=SubjectId(subject_id), call_digest=digest)


def all_of(tenant: str, subject_id: SubjectId) -> str:
    """The NATS subject of all entries of a data subject."""
    return SessionPlace(tenant=tenant, subject_id=subject_id, call_digest=ANY_CALL).subject


_CODEC = TypeAdapter(SessionEntry)


@dataclass(frozen=True, slots=True)
class SessionSeal:
    """Seals and opens entries; every node of the region with the same subject key opens them."""

    subject_key: bytes

    def seal(self, place: SessionPlace, entry: SessionEntry) -> bytes:
        """The value of an entry."""
        return seal(self._key(place.tenant), _CODEC.dump_json(entry), place.bound())

    def entry_of(self, place: SessionPlace, value: bytes) -> SessionEntry | None:
        """The entry of a value; None for a deleted one, and for what another key, place or release made."""
        try:
            return _CODEC.validate_json(unseal(self._key(place.tenant), value, place.bound()))
        except (SealBrokenError, ValidationError):
            return None

    def _key(self, tenant: str) -> bytes:
        derive = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=PURPOSE + tenant.encode())
        return derive.derive(self.subject_key)
