"""Writes down which of this node's calls that were cut off were resumed, and as which call, on whatever node.

The entry in the region's bucket is the truth: one call claimed it (edge/call/ring_back.py). Who claims tells the node
that had the call; a node that was away at that moment, because it was lost, looks when it is back. The record is
written once, however many workers look.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from nats.aio.msg import Msg

from contract.subjects import session_resumed
from edge.call.session_entry import SessionSeal, place_of
from edge.call.session_store import SessionStore
from edge.records.database import DatabaseSettings
from edge.records.model import CutOffCall, CutOffRecord, Record
from edge.records.orphans import find_cut_off_calls
from edge.sync.connection import NATS_ERRORS, raise_if_cancelled

log = structlog.get_logger(__name__)

# As long as the region's bucket knows (edge/sync/sessions_bucket.py).
LOST_AT_MOST_S = 7 * 86_400.0
# The longest ring-back window of a policy, and a call's length before it.
RECENT_S = 2 * 3600.0
LOOK_EVERY_S = 60.0
LOOK_AGAIN_S = 5.0


@dataclass(slots=True, kw_only=True)
class CutOffMarks:
    """Of one node; `keep` takes a record and returns at once."""

    store: SessionStore
    seal: SessionSeal
    node: str
    directory: Path
    settings: DatabaseSettings
    keep: Callable[[Record], None]
    _told: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Look for what happened while this node was away, then whenever somebody tells, until cancelled."""
        await self.store.link.ready()
        await self.store.link.client.subscribe(session_resumed(self.node), cb=self._hear)
        since_s = LOST_AT_MOST_S
        while True:
            self._told.clear()
            try:
                await self.look(since_s)
            except NATS_ERRORS:
                await asyncio.sleep(LOOK_AGAIN_S)
                continue
            raise_if_cancelled()
            since_s = RECENT_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._told.wait()

    async def look(self, since_s: float) -> int:
        """Mark the calls that began since so long and were resumed; returns how many. Raises NATS_ERRORS."""
        since_ms = round((time.time() - since_s) * 1000)
        calls = await asyncio.to_thread(find_cut_off_calls, self.directory, self.settings, since_ms=since_ms)
        return sum([await self._mark(call) for call in calls])

    async def _mark(self, call: CutOffCall) -> bool:
        place = place_of(call.tenant, call.subject_id, call.call_id)
        there = await self.store.newest(place)
        entry = None if there is None else self.seal.entry_of(place, there.value)
        if entry is None or not entry.resumed_as:
            return False
        self.keep(CutOffRecord(call_id=call.call_id, tenant=call.tenant, resumed_as=entry.resumed_as))
        log.info("call_was_resumed", call_id=call.call_id, as_call=entry.resumed_as)
        return True

    async def _hear(self, message: Msg) -> None:
        del message
        self._told.set()
