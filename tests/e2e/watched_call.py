"""Looks into a running call from outside: its saved state, and which process has it."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import apsw

from bench.target import Target
from edge.call.saved_call import SavedCall, decode
from edge.records.contents import state_place
from edge.records.database import DatabaseSettings, database_path, open_reader
from edge.records.keyring import KeyId, open_key_reader
from edge.records.model import CallRecord, TurnRecord
from edge.records.presence import FOLDER
from edge.records.sealing import unseal
from edge.records.store import CallReader
from tests.e2e.calling import until

DATABASE = DatabaseSettings()
SELECT_STATE = "SELECT key_id, state FROM call_states WHERE call_id = ?"


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedCall:
    """One call of a tenant, by its records."""

    region: Target
    tenant: str
    call_id: str

    @property
    def record(self) -> CallRecord:
        found = CallReader(self.region.records, self.tenant, DATABASE).call(self.call_id)
        assert found is not None
        return found

    @property
    def turns(self) -> tuple[TurnRecord, ...]:
        return CallReader(self.region.records, self.tenant, DATABASE).turns(self.call_id)

    @property
    def saved(self) -> SavedCall | None:
        """Where the call stands, for whoever would take it over now."""
        with (
            contextlib.closing(self._connection()) as connection,
            contextlib.closing(open_key_reader(self.region.records, self.tenant, DATABASE)) as keys,
        ):
            for key_id, sealed in connection.execute(SELECT_STATE, (self.call_id,)):
                assert isinstance(sealed, bytes)
                secret = keys.secret(KeyId(str(key_id)))
                return decode(unseal(secret, sealed, state_place(self.tenant, self.call_id).bound()))
        return None

    @property
    def adoptions(self) -> int:
        """How often the audit log says that the call was adopted."""
        with contextlib.closing(self._connection()) as connection:
            sql = "SELECT count(*) FROM audit WHERE action = 'call_adopted' AND target = ?"
            return int(str(connection.execute(sql, (self.call_id,)).get))

    @property
    def owner(self) -> int:
        """The process that has the call: it holds the lock of the call's run."""
        with contextlib.closing(self._connection()) as connection:
            run = connection.execute("SELECT worker FROM calls WHERE call_id = ?", (self.call_id,)).get
        return holder_of(self.region.records / FOLDER / str(run))

    def until(self, condition: Callable[[SavedCall], bool]) -> None:
        """Return once the call stands so."""
        until(lambda: (saved := self.saved) is not None and condition(saved))

    def _connection(self) -> apsw.Connection:
        return open_reader(database_path(self.region.records, self.tenant), DATABASE)


def holder_of(lock: Path) -> int:
    """Who holds a lock file (proc_locks(5))."""
    inode = lock.stat().st_ino
    for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines():
        _, kind, _, _, pid, place, *_ = line.split()
        if kind == "FLOCK" and int(place.split(":")[2]) == inode:
            return int(pid)
    raise AssertionError(f"nobody holds {lock}")


def standing_by(region: Target) -> bool:
    """Whether every worker has a sibling that would go on with its calls."""
    return asyncio.run(_siblings(region)) == [len(region.metrics) - 1] * len(region.metrics)


async def _siblings(region: Target) -> list[int]:
    async with aiohttp.ClientSession() as session:
        return [await _siblings_of(session, url) for url in region.metrics]


async def _siblings_of(session: aiohttp.ClientSession, metrics_url: str) -> int:
    try:
        async with session.get(metrics_url) as answer:
            lines = (await answer.text()).splitlines()
    except aiohttp.ClientError:
        return 0
    return int(sum(float(line.split()[1]) for line in lines if line.startswith("borough_siblings ")))
