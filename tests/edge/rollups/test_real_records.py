"""The ledger counts what calls really leave behind, through the records' own writer; no word of them gets into it."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contract import uplink_guard
from contract.uplink_pb2 import Rollup
from edge.conversation.dialogue import CallOutcome
from edge.records.model import CallRecord, Transport, TurnRecord, TurnTimings
from edge.records.store import CallStore, StoreSettings
from edge.records.subjects import name_subject
from edge.rollups.ledger import RollupLedger

WORDS, NUMBER = "my card ends in four two", "+4930987654"
BEGAN = datetime.now(UTC) - timedelta(hours=1)


def a_call(number: int, *, is_ended: bool) -> CallRecord:
    began = BEGAN + timedelta(minutes=number)
    return CallRecord(
        call_id=f"call-{number}",
        tenant="harbour-bank",
        agent="desk",
        agent_version="4-3fa9c04d11ab",
        subject_id=name_subject(NUMBER, bytes(32)),
        called_number="+4930111111",
        transport=Transport.SIP,
        started_at=began,
        answered_at=began,
        ended_at=began + timedelta(seconds=30) if is_ended else None,
        outcome=CallOutcome.ESCALATED if is_ended else None,
        reason="asked_for_human",
        first_audio_ms=40,
    )


def a_turn(call: CallRecord) -> TurnRecord:
    return TurnRecord(
        call_id=call.call_id,
        tenant=call.tenant,
        subject_id=call.subject_id,
        seq=1,
        began_at=call.started_at,
        caller_text=WORDS,
        agent_text=WORDS,
        intent="block_card",
        confidence=0.71,
        is_silent=True,
        timings=TurnTimings(pause_seen_ms=64, sent_ms=260),
    )


async def test_calls_are_counted_when_they_end_and_none_of_their_words(tmp_path: Path) -> None:
    records = tmp_path / "records"
    ended = [a_call(number, is_ended=True) for number in range(3)]
    running = a_call(3, is_ended=False)
    ledger = RollupLedger(tmp_path / "rollups.db", "in-south", "node-1")
    async with CallStore(records, StoreSettings()) as store:
        for call in (*ended, running):
            await store.save(replace(call, ended_at=None, outcome=None))
            await store.save(a_turn(call))
        for call in ended:
            await store.save(call)
        with ledger:
            await asyncio.to_thread(ledger.cut, records, time.time())
            await store.save(replace(running, ended_at=datetime.now(UTC), outcome=CallOutcome.ABANDONED))
            await asyncio.to_thread(ledger.cut, records, time.time())
            waiting = ledger.waiting()
            content = await asyncio.to_thread((tmp_path / "rollups.db-wal").read_bytes)
    rollups = [uplink_guard.read(Rollup, body) for _, body in waiting]
    assert [problems for _, problems in rollups] == [[], []]
    totals = [sum(entry.calls.total for entry in rollup.entries) for rollup, _ in rollups]
    assert totals == [3, 1]
    (entry,) = (entry for entry in rollups[1][0].entries if entry.calls.total)
    assert (entry.intent, entry.agent_version, entry.calls.abandoned, entry.calls.repeated) == ("block_card", "4", 1, 1)
    assert sum(entry.turns.silent for rollup, _ in rollups for entry in rollup.entries) == 4
    for private in (WORDS, NUMBER, ended[0].subject_id, "4930111111"):
        assert private.encode() not in content
