"""Entries and capacities put together for rollups. Pure."""

from collections.abc import Sequence

import structlog

from contract.uplink_guard import check
from contract.uplink_pb2 import Capacity, Entry

log = structlog.get_logger(__name__)


def guarded(entries: Sequence[Entry]) -> list[Entry]:
    """Without entries that the border would refuse. There is none unless we have a bug; then the others still count."""
    sound = []
    for entry in entries:
        problems = check(entry)
        if problems:
            log.error("rollup_entry_refused", tenant=entry.tenant, problem=problems[0])
        else:
            sound.append(entry)
    return sound


def parts_of(entries: Sequence[Entry], limit_bytes: int) -> list[list[Entry]]:
    """Entries in their order, as many together as fit."""
    parts: list[list[Entry]] = []
    room = 0
    for entry in entries:
        size = entry.ByteSize()
        if not parts or size > room:
            parts.append([])
            room = limit_bytes
        parts[-1].append(entry)
        room -= size
    return parts


def busiest(capacities: Sequence[Capacity]) -> Capacity:
    """What was told at several times, as one."""
    return Capacity(
        slots=max(capacity.slots for capacity in capacities),
        slots_used_peak=max(capacity.slots_used_peak for capacity in capacities),
        refused=sum(capacity.refused for capacity in capacities),
    )
