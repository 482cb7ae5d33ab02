"""A data subject's newest calls to a tenant, as the nodes of a region share them. Pure.

Theory of operation. The calls of one subject to one tenant are one value, in the order in which the nodes told of them.
A call is a repeat when another one within 24 h stands before it. Who writes replaces exactly the value that it read, so
all nodes agree on the order: of two calls that are told at the same moment one is first, and they can neither both be
new nor both be repeats. The verdict is written beside the call; who tells of a call again reads the same verdict.

No identifier of a call is in the value, only the start of its digest.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

REPEAT_WITHIN_MS = 24 * 3600 * 1000
# More than two nodes tell at once, so that none finds its own calls gone when it tells of them again.
CALLS_KEPT = 1_000
_DIGEST_CHARACTERS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A subject called a tenant."""

    tenant: str
    subject_id: str
    call_id: str
    started_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    digest: str
    started_ms: int
    is_repeated: bool


def note(value: bytes, sightings: Sequence[Sighting]) -> tuple[bytes, dict[str, bool]]:
    """Enter calls of one subject; returns the new value, the same one if all stand there, and by call id whether each
    is a repeat. A value that cannot be read counts as none."""
    calls = _read(value)
    verdicts = {call.digest: call.is_repeated for call in calls}
    is_changed = False
    for sighting in sightings:
        digest = _digest(sighting.call_id)
        if digest in verdicts:
            continue
        verdicts[digest] = any(abs(call.started_ms - sighting.started_ms) <= REPEAT_WITHIN_MS for call in calls)
        calls.append(_Known(digest=digest, started_ms=sighting.started_ms, is_repeated=verdicts[digest]))
        is_changed = True
    repeated = {sighting.call_id: verdicts[_digest(sighting.call_id)] for sighting in sightings}
    return (_written(calls) if is_changed else value), repeated


def by_subject(sightings: Iterable[Sighting]) -> dict[tuple[str, str], list[Sighting]]:
    """Calls by tenant and subject, in their order."""
    grouped: dict[tuple[str, str], list[Sighting]] = {}
    for sighting in sightings:
        grouped.setdefault((sighting.tenant, sighting.subject_id), []).append(sighting)
    return grouped


def _digest(call_id: str) -> str:
    return hashlib.sha256(call_id.encode()).hexdigest()[:_DIGEST_CHARACTERS]


def _read(value: bytes) -> list[_Known]:
    try:
        return [
            _Known(digest=str(digest), started_ms=int(started), is_repeated=bool(repeated))
            for digest, started, repeated in json.loads(value or b"[]")
        ]
    except (ValueError, TypeError):
        return []


def _written(calls: Sequence[_Known]) -> bytes:
    oldest_ms = max(call.started_ms for call in calls) - REPEAT_WITHIN_MS
    kept = [call for call in calls if call.started_ms >= oldest_ms][-CALLS_KEPT:]
    rows = [[call.digest, call.started_ms, int(call.is_repeated)] for call in kept]
    return json.dumps(rows, separators=(",", ":")).encode()
