"""A node that was lost learns which of its calls went on elsewhere, and writes it down once."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from edge.call.cut_off_marks import LOST_AT_MOST_S
from edge.call.history import CallFacts, CallHistory
from edge.conversation.dialogue import CallOutcome
from edge.observability.metrics import CallMetrics
from edge.records.audit import AuditAction
from edge.records.database import DatabaseSettings, database_path, open_reader
from edge.records.model import CallRecord, CutOffRecord, Resumptions, Transport
from edge.records.orphans import NODE_LOST, close_orphans
from edge.records.presence import Presence, RunId
from edge.records.store import CallReader, CallStore, StoreSettings
from edge.records.verification import Verdict, verify
from tests.edge.call.region_nodes import (
    AGENT,
    ANNA,
    TENANT,
    Worker,
    a_call,
    access_to,
    agent_bucket,
    unhurried,
    wanted,
    working,
)
from tests.edge.replication.conftest import Server, server

__all__ = ["server", "unhurried"]
DATABASE = DatabaseSettings()
OTHER_BOOT = "00000000-0123456789abcdef"


def answered(call_id: str) -> CallRecord:
    began = datetime.now(UTC) - timedelta(minutes=1)
    return CallRecord(
        call_id=call_id,
        tenant=TENANT,
        agent=AGENT,
        agent_version="1",
        subject_id=ANNA,
        called_number="+15550100",
        transport=Transport.SIP,
        started_at=began,
        answered_at=began,
    )


async def lose(records: Path, *call_ids: str) -> None:
    """The machine stops while these calls run, and boots again; its first worker ends them."""
    presence = Presence(records)
    presence.run = RunId(OTHER_BOOT)
    store = CallStore(records, StoreSettings())
    store._files._presence = presence
    async with store:
        for call_id in call_ids:
            await store.save(answered(call_id))
    assert close_orphans(records, TENANT, DATABASE) == len(call_ids)


async def marked(worker: Worker, records: Path) -> int:
    """What is found is put on record, as the recorder does it."""
    found = await worker.region.marks.look(LOST_AT_MOST_S)
    async with CallStore(records, StoreSettings()) as store:
        for record in worker.kept:
            assert isinstance(record, CutOffRecord)
            await store.save(record)
    return found


def entries(records: Path, action: AuditAction) -> list[str]:
    connection = open_reader(database_path(records, TENANT), DATABASE)
    rows = connection.execute("SELECT target FROM audit WHERE action = ?", (action,)).fetchall()
    connection.close()
    return [str(target) for (target,) in rows]


async def test_a_lost_call_says_as_which_it_went_on(tmp_path: Path, server: Server) -> None:
    """Both nodes' records tell it, once, though several workers look; a call that nobody resumed says only why it
    ended."""
    a, b = tmp_path / "a", tmp_path / "b"
    async with agent_bucket(server.url), working(b, access_to(server.url, "b"), run="run-b") as elsewhere:
        async with working(a, access_to(server.url, "a"), run="run-a") as lost:
            lost.says(a_call("old"))
        await lose(a / "records", "old", "nobody-rang")
        claimed = await elsewhere.rung_by(wanted("new"))
        assert claimed is not None
        async with CallStore(b / "records", StoreSettings()) as store:
            kept: list[CallRecord] = []
            facts = CallFacts(
                call_id="new",
                tenant=TENANT,
                agent=AGENT,
                agent_version="1",
                subject_id=ANNA,
                called_number="+15550100",
                transport=Transport.SIP,
            )
            history = CallHistory(facts, kept.append, CallMetrics.create(), lambda: 0.0)  # type: ignore[arg-type]
            history.opened()
            history.resumes(claimed.ring_back, consent="asked")
            for record in kept:
                await store.save(record)
        for run in ("again-1", "again-2"):
            async with working(a, access_to(server.url, "a"), run=run) as back:
                assert await marked(back, a / "records") == (1 if run == "again-1" else 0)
                # Another worker that looked at the same moment.
                back.kept = [CutOffRecord(call_id="old", tenant=TENANT, resumed_as="new")]
                await marked(back, a / "records")
    reader = CallReader(a / "records", TENANT, DATABASE)
    for call_id, resumed_as in (("old", "new"), ("nobody-rang", None)):
        call = reader.call(call_id)
        assert call is not None
        assert (call.outcome, call.reason) == (CallOutcome.FAILED, NODE_LOST)
        assert reader.resumptions(call_id) == Resumptions(resumed_as=resumed_as)
    assert CallReader(b / "records", TENANT, DATABASE).resumptions("new") == Resumptions(resumes="old")
    assert entries(a / "records", AuditAction.CALL_RESUMED) == ["old"]
    assert entries(b / "records", AuditAction.CALL_RESUMES) == ["new"]
    assert verify(a / "records", TENANT, DATABASE).verdict is Verdict.WHOLE
    assert verify(b / "records", TENANT, DATABASE).verdict is Verdict.WHOLE


async def test_a_node_that_lives_is_told_at_once(tmp_path: Path, server: Server) -> None:
    """Asterisk failed, the node did not: it hears of the resumption when it happens."""
    a, b = tmp_path / "a", tmp_path / "b"
    async with (
        agent_bucket(server.url),
        working(a, access_to(server.url, "a"), run="run-a") as here,
        working(b, access_to(server.url, "b"), run="run-b") as elsewhere,
        CallStore(a / "records", StoreSettings()) as store,
    ):
        cut_off = replace(answered("old"), ended_at=datetime.now(UTC), outcome=CallOutcome.FAILED)
        await store.save(cut_off)
        marks = here.tasks.create_task(here.region.marks.run())
        here.says(a_call("old"))
        here.region.sessions.ended("old", is_cut_off=True)
        await here.told()
        await here.region.link.client.flush()
        assert await elsewhere.rung_by(wanted("new")) is not None
        async with asyncio.timeout(5):
            while not here.kept:
                await asyncio.sleep(0.01)
        while not marks.done():
            marks.cancel()
            await asyncio.wait([marks], timeout=0.2)
    assert here.kept == [CutOffRecord(call_id="old", tenant=TENANT, resumed_as="new")]
