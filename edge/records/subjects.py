"""Who a caller is, without saying it: numbers leave the call only as keyed hashes.

An HMAC and not a plain hash, because all telephone numbers of a country can be hashed in minutes.
"""

import hashlib
import hmac
from typing import NewType

from edge.records.errors import SubjectKeyError

SubjectId = NewType("SubjectId", str)

MINIMUM_KEY_BYTES = 32
SUBJECT_ID_CHARACTERS = 32  # 128 bits: no two callers of a tenant collide


def name_subject(caller_number: str, key: bytes) -> SubjectId:
    """The data subject behind a number; spacing, brackets and a leading 00 for + make no difference."""
    if len(key) < MINIMUM_KEY_BYTES:
        raise SubjectKeyError(f"the subject key has {len(key)} bytes, at least {MINIMUM_KEY_BYTES} are needed")
    digest = hmac.new(key, _canonical(caller_number).encode(), hashlib.sha256)
    return SubjectId(digest.hexdigest()[:SUBJECT_ID_CHARACTERS])


def _canonical(number: str) -> str:
    kept = "".join(character for character in number.strip().lower() if character.isalnum() or character in "+@")
    return "+" + kept[2:] if kept.startswith("00") else kept
