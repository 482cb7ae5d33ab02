"""The states of running calls in the tenants' databases: written behind the call's back, adopted in one transaction.

A state lies beside the turns of its call, sealed with the same key, and goes through the same queue: it is never on
disk before the turns it follows. See `edge.records.writing.Writer.adopt` for the fence.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge.call.saved_call import SavedCall, encode
from edge.records.database import DatabaseSettings
from edge.records.files import close_all_orphans
from edge.records.model import Adopted, Orphan, Record, StateRecord
from edge.records.orphans import find_open_calls
from edge.records.presence import is_alive
from edge.records.store import CallStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStates:
    """CallStates of one worker. `record` takes a record and returns at once."""

    store: CallStore
    directory: Path
    settings: DatabaseSettings
    record: Callable[[Record], None]

    def keep(self, call: SavedCall) -> None:
        """Take the newest state of a call of ours."""
        self.record(
            StateRecord(call_id=call.call_id, tenant=call.tenant, subject_id=call.subject_id, state=encode(call))
        )

    async def orphans(self) -> Sequence[Orphan]:
        """The open calls of dead workers."""
        return await asyncio.to_thread(self._find_orphans)

    async def has_open_calls(self, run: str) -> bool:
        """Whether this run has calls."""
        found = await asyncio.to_thread(find_open_calls, self.directory, self.settings)
        return any(each.run == run for each in found)

    async def adopt(self, orphan: Orphan) -> Adopted | None:
        """Make a call ours. Raises RecordsError."""
        return await self.store.adopt(orphan)

    async def close_orphans(self) -> int:
        """End in the records what nobody adopted."""
        return await asyncio.to_thread(close_all_orphans, self.directory, self.settings)

    def _find_orphans(self) -> list[Orphan]:
        found = find_open_calls(self.directory, self.settings)
        alive = {run for run in {each.run for each in found} if run is not None and is_alive(self.directory, run)}
        return [each for each in found if each.run not in alive]
