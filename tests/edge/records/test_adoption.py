"""An open call has one owner: exactly one run adopts it, and who had it before writes nothing of it any more."""

import asyncio
import json
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import apsw
import pytest

from edge.call.ports import HangupCause, TransferOutcome
from edge.conversation.dialogue import CallOutcome
from edge.records.audit import AuditAction
from edge.records.database import DatabaseSettings, database_path
from edge.records.errors import CallTakenOverError
from edge.records.model import Adopted, Orphan, StateRecord, ToolRunRecord, TransferRecord, Transport
from edge.records.orphans import find_open_calls
from edge.records.presence import RunId
from edge.records.store import CallReader, CallStore, StoreSettings
from edge.records.subjects import SubjectId
from edge.records.tenant import TenantRecords
from edge.records.verification import Verdict, verify
from tests.edge.records.test_orphans import NOON, a_call, a_turn

DATABASE = DatabaseSettings()
SUBJECT = SubjectId("a" * 32)


def a_state(call_id: str, state: bytes) -> StateRecord:
    return StateRecord(call_id=call_id, tenant="acme", subject_id=SUBJECT, state=state)


def store_of(directory: Path) -> CallStore:
    return CallStore(directory, StoreSettings(), closes_orphans=False)


async def leave_a_call(directory: Path) -> Orphan:
    """A call as a worker leaves it that dies."""
    async with store_of(directory) as store:
        await store.save(a_call("c1"))
        await store.save(a_turn("c1", NOON))
        await store.save(
            ToolRunRecord(call_id="c1", tenant="acme", seq=1, tool="t", began_at=NOON, took_ms=5, error=None)
        )
        await store.save(
            TransferRecord(
                call_id="c1",
                tenant="acme",
                seq=1,
                destination="sip:a@b",
                reason="r",
                began_at=NOON,
                took_ms=5,
                outcome=TransferOutcome.BUSY,
            )
        )
        await store.save(a_state("c1", b"before"))
        await store.save(a_state("c1", b"my card is gone"))
    (orphan,) = find_open_calls(directory, DATABASE)
    return orphan


async def test_the_adopter_gets_the_call_with_its_state(tmp_path: Path) -> None:
    orphan = await leave_a_call(tmp_path)
    assert (orphan.call_id, orphan.tenant, orphan.agent, orphan.transport) == ("c1", "acme", "pharmacy", Transport.SIP)
    async with store_of(tmp_path) as store:
        adopted = await store.adopt(orphan)
    assert adopted == Adopted(
        call=a_call("c1"),
        state=b"my card is gone",
        next_seq=2,
        tool_runs=1,
        transfers=1,
        last_known_at=NOON + timedelta(seconds=1),
    )
    files = [path for path in tmp_path.iterdir() if path.is_file()]  # noqa: ASYNC240 - a few kilobytes
    assert files
    assert not any(b"my card is gone" in path.read_bytes() for path in files)


async def test_of_all_who_try_one_adopts(tmp_path: Path) -> None:
    orphan = await leave_a_call(tmp_path)
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(store_of(tmp_path)) for _ in range(4)]
        results = await asyncio.gather(*(store.adopt(orphan) for store in stores for _ in range(3)))
        (owner,) = {each.run for each in find_open_calls(tmp_path, DATABASE)}
    assert sum(result is not None for result in results) == 1
    assert owner in {store.run for store in stores}


async def test_who_lost_the_call_writes_nothing_of_it(tmp_path: Path) -> None:
    """Not its turns, not its state, not its end: also not once the call has ended with its new owner."""
    async with store_of(tmp_path) as old, store_of(tmp_path) as new:
        await old.save(a_call("c1"))
        await old.save(a_call("c2"))
        orphan = Orphan(call_id="c1", tenant="acme", agent="pharmacy", transport=Transport.SIP, run=old.run)
        assert await new.adopt(orphan) is not None
        ended = replace(a_call("c1"), ended_at=NOON + timedelta(minutes=1), outcome=CallOutcome.CONTAINED)
        late = (a_turn("c1", NOON), a_state("c1", b"old"), replace(ended, reason="old"))
        for record in late:
            with pytest.raises(CallTakenOverError):
                await old.save(record)
        await new.save(replace(ended, reason="new"))
        for record in late:
            with pytest.raises(CallTakenOverError):
                await old.save(record)
        await old.save(a_turn("c2", NOON))
    reader = CallReader(tmp_path, "acme", DATABASE)
    call = reader.call("c1")
    assert call is not None
    assert call.reason == "new"
    assert reader.turns("c1") == ()
    assert len(reader.turns("c2")) == 1


async def test_a_call_that_ended_or_has_another_owner_is_not_adopted(tmp_path: Path) -> None:
    orphan = await leave_a_call(tmp_path)
    async with store_of(tmp_path) as store:
        assert await store.adopt(replace(orphan, run=RunId("somebody else"))) is None
        assert await store.adopt(orphan) is not None
        assert await store.adopt(orphan) is None
        await store.save(
            replace(a_call("c1"), ended_at=NOON, outcome=CallOutcome.CONTAINED, hangup_cause=HangupCause.NORMAL)
        )
        assert await store.adopt(replace(orphan, run=store.run)) is None


async def test_an_adoption_is_in_the_audit_log_and_its_state_goes_with_the_call(tmp_path: Path) -> None:
    orphan = await leave_a_call(tmp_path)
    async with store_of(tmp_path) as store:
        await store.adopt(orphan)
        await store.save(replace(a_call("c1"), ended_at=NOON, outcome=CallOutcome.CONTAINED))
        run = store.run
    connection = apsw.Connection(str(database_path(tmp_path, "acme")))
    sql = "SELECT detail FROM audit WHERE action = ? AND target = 'c1'"
    (detail,) = connection.execute(sql, (AuditAction.CALL_ADOPTED,)).fetchall()
    assert json.loads(str(detail[0])) == {"dead": orphan.run, "by": run}
    assert connection.execute("SELECT count(*) FROM call_states").get == 0
    connection.close()
    assert verify(tmp_path, "acme", DATABASE).verdict is Verdict.WHOLE


async def test_a_state_is_gone_with_its_subjects_key(tmp_path: Path) -> None:
    """The call can be adopted and begins anew: what was said is not there any more."""
    orphan = await leave_a_call(tmp_path)
    records = TenantRecords.open(tmp_path, "acme", DATABASE, actor="test", run=RunId("test"))
    records.destroy_key(SUBJECT)
    records.close()
    async with store_of(tmp_path) as store:
        adopted = await store.adopt(orphan)
    assert adopted is not None
    assert adopted.state is None
