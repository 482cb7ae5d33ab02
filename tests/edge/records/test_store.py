"""The store on real SQLite files: what is acknowledged is on disk, and every failure has a name."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from edge.call.ports import HangupCause, TransferOutcome
from edge.conversation.dialogue import CallOutcome, Citation
from edge.records.audit import AuditAction, read_entries
from edge.records.database import DatabaseSettings, database_path
from edge.records.errors import (
    InvalidTenantError,
    RecordsError,
    RowRejectedError,
    StoreClosedError,
    StoreDamagedError,
    StoreFullError,
    StoreLockedError,
    StoreOverloadedError,
    StoreReadOnlyError,
)
from edge.records.files import Request, Result, TenantFiles
from edge.records.model import CallRecord, ToolRunRecord, TransferRecord, Transport, TurnRecord, TurnTimings
from edge.records.store import CallReader, CallStore, StoreSettings
from edge.records.subjects import SubjectId
from tests.edge.records.examples import a_transfer

NOON = datetime(2026, 11, 23, 12, 0, 0, 123_000, tzinfo=UTC)
SUBJECT = SubjectId("0123456789abcdef0123456789abcdef")
PATIENT = StoreSettings(save_deadline_s=60.0)
QUICK = StoreSettings(database=DatabaseSettings(busy_timeout_s=0.05), save_deadline_s=2.0)


def a_call(call_id: str = "c1", tenant: str = "acme") -> CallRecord:
    return CallRecord(
        call_id=call_id,
        tenant=tenant,
        agent="pharmacy",
        agent_version="3",
        subject_id=SUBJECT,
        called_number="+4930123456",
        transport=Transport.SIP,
        started_at=NOON,
    )


def a_turn(seq: int = 1, call_id: str = "c1") -> TurnRecord:
    return TurnRecord(
        call_id=call_id,
        tenant="acme",
        subject_id=SUBJECT,
        seq=seq,
        began_at=NOON,
        caller_text="when do you open",
        agent_text="We open at nine.",
        intent="opening_hours",
        confidence=0.93,
        citations=(Citation(item_id="hours", version=4),),
        was_interrupted=True,
        timings=TurnTimings(
            pause_seen_ms=64,
            recognise_queue_ms=1,
            recognise_compute_ms=85,
            understand_ms=9,
            audio_ready_ms=180,
            sent_ms=184,
        ),
    )


def reader(directory: Path, tenant: str = "acme") -> CallReader:
    return CallReader(directory, tenant, QUICK.database)


async def test_every_field_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    call = replace(
        a_call(),
        answered_at=NOON,
        ended_at=NOON,
        outcome=CallOutcome.CONTAINED,
        hangup_cause=HangupCause.NORMAL,
        reason="caller hung up",
        first_audio_ms=41,
    )
    tool = ToolRunRecord(call_id="c1", tenant="acme", seq=1, tool="crm", began_at=NOON, took_ms=31, error="late")
    transfer = TransferRecord(
        call_id="c1",
        tenant="acme",
        seq=1,
        destination="sip:desk@node",
        reason="asked",
        began_at=NOON,
        took_ms=900,
        outcome=TransferOutcome.BUSY,
    )
    async with CallStore(tmp_path, QUICK) as store:
        for record in (a_call(), a_turn(1), a_turn(2), tool, transfer, call):
            await store.save(record)
    assert reader(tmp_path).call("c1") == call
    assert reader(tmp_path).turns("c1") == (a_turn(1), a_turn(2))
    assert reader(tmp_path).tool_runs("c1") == (tool,)
    assert reader(tmp_path).transfers("c1") == (transfer,)


async def test_a_turn_saved_again_keeps_one_row_with_the_newer_words(tmp_path: Path) -> None:
    heard = replace(a_turn(), agent_text="We open", was_interrupted=True)
    async with CallStore(tmp_path, QUICK) as store:
        for record in (a_call(), a_turn(), heard):
            await store.save(record)
    assert reader(tmp_path).turns("c1") == (heard,)


async def test_tool_runs_and_transfers_saved_again_are_there_once(tmp_path: Path) -> None:
    tool = ToolRunRecord(call_id="c1", tenant="acme", seq=1, tool="crm", began_at=NOON, took_ms=31, error="late")
    async with CallStore(tmp_path, QUICK) as store:
        for record in (a_call(), tool, a_transfer(), tool, a_transfer()):
            await store.save(record)
    assert reader(tmp_path).tool_runs("c1") == (tool,)
    assert reader(tmp_path).transfers("c1") == (a_transfer(),)
    with contextlib.closing(apsw.Connection(str(database_path(tmp_path, "acme")))) as connection:
        actions = [entry.action for entry in read_entries(connection)]
    assert actions.count(AuditAction.TRANSFER) == 1


async def test_recent_calls_are_newest_first_and_tenants_do_not_mix(tmp_path: Path) -> None:
    later = replace(a_call("c2"), started_at=NOON.replace(hour=13))
    async with CallStore(tmp_path, QUICK) as store:
        for call in (a_call("c1"), later, a_call("c3", tenant="other")):
            await store.save(call)
    assert [call.call_id for call in reader(tmp_path).recent_calls(10)] == ["c2", "c1"]
    assert [call.call_id for call in reader(tmp_path, "other").recent_calls(10)] == ["c3"]
    assert reader(tmp_path, "nobody").recent_calls(10) == ()


async def test_a_saved_record_is_visible_to_another_connection_at_once(tmp_path: Path) -> None:
    async with CallStore(tmp_path, QUICK) as store:
        await store.save(a_call())
        assert reader(tmp_path).call("c1") == a_call()


async def test_many_records_at_once_share_few_transactions_and_all_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[int] = []
    async with CallStore(tmp_path, PATIENT) as store:
        write = store._files.write

        def counted(tenant: str, records: Sequence[Request]) -> list[Result]:
            groups.append(len(records))
            return write(tenant, records)

        monkeypatch.setattr(store._files, "write", counted)
        await store.save(a_call())
        async with asyncio.TaskGroup() as group:
            for seq in range(500):
                group.create_task(store.save(a_turn(seq)))
    assert sum(groups) == 501
    assert len(groups) < 250  # how many depends on who is faster, the loop or the disk
    assert len(reader(tmp_path).turns("c1")) == 500


async def test_a_bad_record_fails_alone(tmp_path: Path) -> None:
    async with CallStore(tmp_path, QUICK) as store:
        await store.save(a_call())
        results = await asyncio.gather(
            store.save(a_turn(1)),
            store.save(a_turn(1, call_id="unknown")),
            store.save(a_turn(2)),
            return_exceptions=True,
        )
    assert [type(result) for result in results] == [type(None), RowRejectedError, type(None)]
    assert len(reader(tmp_path).turns("c1")) == 2


async def test_a_record_that_cannot_be_a_row_fails_alone_and_recording_goes_on(tmp_path: Path) -> None:
    async with CallStore(tmp_path, QUICK) as store:
        await store.save(a_call())
        with pytest.raises(RowRejectedError) as caught:
            await store.save(replace(a_turn(1), agent_text="Anna\ud800"))
        assert "Anna" not in str(caught.value)
        await store.save(a_turn(2))
    assert [turn.seq for turn in reader(tmp_path).turns("c1")] == [2]


def _breaks(*_: object) -> list[RecordsError | None]:
    raise IndexError("nobody foresaw this")


async def test_an_error_that_nobody_foresaw_does_not_end_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with CallStore(tmp_path, QUICK) as store:
        await store.save(a_call())
        with monkeypatch.context() as patched:
            patched.setattr(TenantFiles, "_write", _breaks)
            with pytest.raises(RecordsError, match="IndexError"):
                await store.save(a_turn(1))
        await store.save(a_turn(2))
    assert [turn.seq for turn in reader(tmp_path).turns("c1")] == [2]


async def test_a_full_disk_is_named_and_recording_goes_on_once_there_is_room(tmp_path: Path) -> None:
    async with CallStore(tmp_path, QUICK) as store:
        await store.save(a_call())
        connection = store._files._open["acme"].connection
        pages = connection.pragma("page_count")
        connection.pragma("max_page_count", pages)
        with pytest.raises(StoreFullError) as caught:
            await store.save(replace(a_turn(), caller_text="x" * 200_000))
        assert "df -h" in caught.value.hint
        await store.save(a_turn())
    assert reader(tmp_path).turns("c1") == (a_turn(),)


async def test_a_lock_held_by_another_program_is_named_and_passes(tmp_path: Path) -> None:
    async with CallStore(tmp_path, QUICK) as store:
        await store.save(a_call())
        other = apsw.Connection(str(database_path(tmp_path, "acme")))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLockedError):
            await store.save(a_turn())
        other.execute("ROLLBACK")
        other.close()
        await store.save(a_turn())
    assert len(reader(tmp_path).turns("c1")) == 1


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    async with CallStore(tmp_path / "file" / "records", QUICK) as store:
        with pytest.raises(StoreReadOnlyError):
            await store.save(a_call())


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    database_path(tmp_path, "acme").write_bytes(b"these bytes are no database" * 100)
    async with CallStore(tmp_path, QUICK) as store:
        with pytest.raises(StoreDamagedError):
            await store.save(a_call())


@pytest.mark.parametrize("tenant", ["", "../etc", "a/b", "Acme", "-x", "a" * 64, "a.b"])
async def test_a_tenant_name_never_leaves_the_directory(tmp_path: Path, tenant: str) -> None:
    async with CallStore(tmp_path, QUICK) as store:
        with pytest.raises(InvalidTenantError):
            await store.save(a_call(tenant=tenant))


async def test_a_save_that_cannot_finish_raises_at_its_deadline(tmp_path: Path) -> None:
    slow = StoreSettings(database=DatabaseSettings(busy_timeout_s=1.0), queue_limit=1, save_deadline_s=0.1)
    async with CallStore(tmp_path, QUICK) as store:
        await store.save(a_call())
    other = apsw.Connection(str(database_path(tmp_path, "acme")))
    async with CallStore(tmp_path, slow, closes_orphans=False) as store:
        other.execute("BEGIN IMMEDIATE")
        results = await asyncio.gather(*(store.save(a_turn(seq)) for seq in range(3)), return_exceptions=True)
        assert [type(result) for result in results] == [StoreOverloadedError] * 3
        other.execute("ROLLBACK")
    other.close()
    store._thread.join()


async def test_a_closed_store_refuses(tmp_path: Path) -> None:
    async with CallStore(tmp_path, QUICK) as store:
        pass
    with pytest.raises(StoreClosedError):
        await store.save(a_call())


async def test_leaving_the_store_writes_what_is_queued(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group, CallStore(tmp_path, QUICK) as store:
        group.create_task(store.save(a_call()))
        await asyncio.sleep(0)
    assert reader(tmp_path).call("c1") == a_call()


async def test_two_workers_write_the_same_tenant(tmp_path: Path) -> None:
    async with CallStore(tmp_path, PATIENT) as one, CallStore(tmp_path, PATIENT) as two:
        await asyncio.gather(*((one if index % 2 else two).save(a_call(f"c{index}")) for index in range(20)))
    assert len(reader(tmp_path).recent_calls(100)) == 20


async def test_the_callers_number_has_no_column(tmp_path: Path) -> None:
    async with CallStore(tmp_path, QUICK) as store:
        await store.save(a_call())
    connection = apsw.Connection(str(database_path(tmp_path, "acme")))
    names = {row[1] for row in connection.execute("PRAGMA table_info(calls)")}
    connection.close()
    assert "subject_id" in names
    assert "caller_number" not in names
