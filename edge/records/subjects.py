"""Who a caller is, without saying it: numbers leave the call only as keyed hashes.

An HMAC and not a plain hash, because all telephone numbers of a country can be hashed in minutes.
"""

import hashlib
import hmac
import secrets
from typing import NewType

from edge.records.errors import SubjectKeyError

SubjectId = NewType("SubjectId", str)

MINIMUM_KEY_BYTES = 32
MINIMUM_DIGITS = 2  # the shortest extension of a house
SUBJECT_ID_CHARACTERS = 32  # 128 bits: no two callers of a tenant collide


def name_subject(caller_number: str, key: bytes) -> SubjectId:
    """The data subject behind a number; spacing, brackets and a leading 00 for + make no difference.

    A caller who withholds the number (or came by the web page) is a subject of this one call: strangers must not be
    taken for one person, nor erased as one.
    """
    if len(key) < MINIMUM_KEY_BYTES:
        raise SubjectKeyError(f"the subject key has {len(key)} bytes, at least {MINIMUM_KEY_BYTES} are needed")
    if not names_somebody(caller_number):
        return SubjectId(secrets.token_hex(SUBJECT_ID_CHARACTERS // 2))
    digest = hmac.new(key, _canonical(caller_number).encode(), hashlib.sha256)
    return SubjectId(digest.hexdigest()[:SUBJECT_ID_CHARACTERS])


def names_somebody(caller_number: str) -> bool:
    """False for "anonymous", "unavailable", "web", nothing, and the address that RFC 3323 4.1.1.3 gives to nobody."""
    canonical = _canonical(caller_number)
    if "@" in canonical:
        return not canonical.startswith("anonymous@")
    return sum(character.isdigit() for character in canonical) >= MINIMUM_DIGITS


def _canonical(number: str) -> str:
    kept = "".join(character for character in number.strip().lower() if character.isalnum() or character in "+@")
    return "+" + kept[2:] if kept.startswith("00") else kept
