"""The states of running calls in the tenants' databases: written behind the call's back, adopted in one transaction.

A state lies beside the turns of its call, sealed with the same key, and goes through the same queue: it is never on
disk before the turns it follows. See `edge.records.writing.Writer.adopt` for the fence.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from edge.call.saved_call import SavedCall, encode
from edge.records.database import DatabaseSettings
from edge.records.files import close_all_orphans
from edge.records.model import Adopted, Orphan, Record, StateRecord
from edge.records.orphans import find_open_calls
from edge.records.presence import is_alive, sole_sweeper
from edge.records.store import CallStore

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStates:
    """CallStates of one worker. `record` takes a record and returns at once."""

    store: CallStore
    directory: Path
    settings: DatabaseSettings
    record: Callable[[Record], None]

    def keep(self, call: SavedCall) -> None:
        """Take the newest state of a call of ours."""
        try:
            state = encode(call)
        except Exception as error:  # noqa: BLE001 - a call must not end because it could not be taken over
            log.error("state_not_saved", kind=type(error).__name__)  # noqa: TRY400 - its text may quote what was said
            return
        self.record(StateRecord(call_id=call.call_id, tenant=call.tenant, subject_id=call.subject_id, state=state))

    async def orphans(self) -> Sequence[Orphan]:
        """The open calls of dead workers."""
        return await asyncio.to_thread(self._find_orphans)

    @asynccontextmanager
    async def sweeping(self) -> AsyncIterator[None]:
        """Be the only one that looks after calls of dead workers."""
        turn = sole_sweeper(self.directory)
        await asyncio.to_thread(turn.__enter__)
        try:
            yield
        finally:
            turn.__exit__(None, None, None)

    async def open_calls(self) -> Sequence[Orphan]:
        """The open calls of all workers."""
        return await asyncio.to_thread(find_open_calls, self.directory, self.settings)

    async def adopt(self, orphan: Orphan, *, goes_on: bool) -> Adopted | None:
        """Make a call ours. Raises RecordsError."""
        return await self.store.adopt(orphan, goes_on=goes_on)

    async def close_orphans(self) -> int:
        """End in the records what nobody adopted."""
        return await asyncio.to_thread(close_all_orphans, self.directory, self.settings)

    def _find_orphans(self) -> list[Orphan]:
        found = find_open_calls(self.directory, self.settings)
        alive = {run for run in {each.run for each in found} if run is not None and is_alive(self.directory, run)}
        return [each for each in found if each.run not in alive]
