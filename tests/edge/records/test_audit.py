"""The audit chain: what is entered, that several processes append to it, and that every edit is found."""

import asyncio
import contextlib
import itertools
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from edge.records import files
from edge.records.audit import AuditAction, AuditTrail, read_entries
from edge.records.database import DatabaseSettings, database_path, key_database_path
from edge.records.errors import AuditMissingError
from edge.records.presence import RunId
from edge.records.store import CallStore, StoreSettings
from edge.records.tenant import TenantRecords
from edge.records.verification import AnchorState, AuditReport, verify
from tests.edge.records.examples import ANNA, a_call, a_transfer, a_turn

DATABASE = DatabaseSettings()
DROP_GUARDS = "DROP TRIGGER audit_is_never_changed; DROP TRIGGER audit_is_never_cut;"


async def write_calls(directory: Path, *call_ids: str) -> None:
    async with CallStore(directory, StoreSettings()) as store:
        for call_id in call_ids:
            for record in (a_call(call_id), a_turn(1, call_id=call_id), a_turn(2, call_id=call_id)):
                await store.save(record)
            await store.save(a_call(call_id, ended=True))


def edit(directory: Path, sql: str) -> None:
    with contextlib.closing(apsw.Connection(str(database_path(directory, "acme")))) as connection:
        connection.execute(DROP_GUARDS + sql)


def report(directory: Path) -> AuditReport:
    return verify(directory, "acme", DATABASE)


async def test_what_happens_to_a_call_is_entered(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        for record in (a_call(), a_turn(), a_transfer(), a_call(ended=True)):
            await store.save(record)
    with contextlib.closing(apsw.Connection(str(database_path(tmp_path, "acme")))) as connection:
        entries = list(read_entries(connection))
    assert [entry.action for entry in entries] == [
        AuditAction.CALL_STARTED,
        AuditAction.CALL_ANSWERED,
        AuditAction.KEY_CREATED,
        AuditAction.TRANSFER,
        AuditAction.CALL_ENDED,
    ]
    assert {entry.target for entry in entries if entry.action is not AuditAction.KEY_CREATED} == {"c1"}
    assert all(entry.actor.startswith("worker:") for entry in entries)
    assert report(tmp_path).is_whole
    assert report(tmp_path).anchor is AnchorState.HOLDS
    assert report(tmp_path).anchored_seq == 5


async def test_reading_and_a_destroyed_key_are_entered_and_breaks_nothing(tmp_path: Path) -> None:
    await write_calls(tmp_path, "c1")
    records = TenantRecords.open(tmp_path, "acme", DATABASE, actor="user:eve", run=RunId("test"))
    with contextlib.closing(records):
        records.tell_read("c1")
        records.destroy_key(ANNA)
        last = [(entry.action, entry.actor) for entry in read_entries(records.connection)][-3:]
    actions = (AuditAction.RECORDS_READ, AuditAction.KEY_DESTROYING, AuditAction.KEY_DESTROYED)
    assert last == [(action, "user:eve") for action in actions]
    assert report(tmp_path).is_whole


@pytest.mark.parametrize(
    ("intent", "action"),
    [("consent_given", AuditAction.CONSENT_GIVEN), ("consent_declined", AuditAction.CONSENT_REFUSED)],
)
async def test_consent_is_entered_once_with_its_turn(tmp_path: Path, intent: str, action: AuditAction) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        for record in (a_call(), replace(a_turn(2), intent=intent), replace(a_turn(2), intent=intent), a_turn(3)):
            await store.save(record)
    with contextlib.closing(apsw.Connection(str(database_path(tmp_path, "acme")))) as connection:
        told = [entry for entry in read_entries(connection) if entry.action is action]
    assert [(entry.target, dict(entry.detail)) for entry in told] == [("c1", {"turn": 2})]


async def test_a_turn_written_after_the_end_amends_the_call(tmp_path: Path) -> None:
    await write_calls(tmp_path, "c1")
    async with CallStore(tmp_path, StoreSettings()) as store:
        await store.save(a_turn(3))
    assert report(tmp_path).is_whole


@pytest.mark.parametrize(
    ("sql", "broken"),
    [
        ("UPDATE audit SET target = 'other' WHERE seq = 4", 4),
        ("UPDATE audit SET at = at + 1 WHERE seq = 1", 1),
        ("UPDATE audit SET detail = '{}' WHERE seq = 4", 4),
        ("DELETE FROM audit WHERE seq = 3", 4),
        ("DELETE FROM audit WHERE seq = 1", 2),
        ("UPDATE audit SET seq = seq + 100 WHERE seq = 7", 107),
    ],
)
async def test_the_first_entry_that_does_not_follow_is_named(tmp_path: Path, sql: str, broken: int) -> None:
    await write_calls(tmp_path, "c1", "c2")
    assert report(tmp_path).entries == 7
    edit(tmp_path, sql)
    assert report(tmp_path).first_broken == broken
    assert not report(tmp_path).is_whole


async def test_a_chain_that_was_cut_at_its_end_is_found(tmp_path: Path) -> None:
    await write_calls(tmp_path, "c1", "c2")
    edit(tmp_path, "DELETE FROM audit WHERE seq > 4; DELETE FROM calls WHERE call_id = 'c2'")
    found = report(tmp_path)
    assert (found.first_broken, found.anchor, found.anchored_seq) == (None, AnchorState.CUT, 7)
    assert not found.is_whole


async def test_a_cut_stays_found_after_workers_wrote_on(tmp_path: Path) -> None:
    await write_calls(tmp_path, "c1", "c2")
    edit(tmp_path, "DELETE FROM audit WHERE seq > 4; DELETE FROM calls WHERE call_id = 'c2'")
    await write_calls(tmp_path, "c3", "c4")
    assert report(tmp_path).anchor is AnchorState.CUT


async def test_an_anchor_that_was_rewritten_without_the_master_key_is_found(tmp_path: Path) -> None:
    await write_calls(tmp_path, "c1", "c2")
    edit(tmp_path, "DELETE FROM audit WHERE seq > 4; DELETE FROM calls WHERE call_id = 'c2'")
    with contextlib.closing(apsw.Connection(str(database_path(tmp_path, "acme")))) as connection:
        head = AuditTrail(connection=connection, tenant="acme", actor="x").head()
    with contextlib.closing(apsw.Connection(str(key_database_path(tmp_path, "acme", DATABASE)))) as keys:
        keys.execute("UPDATE audit_anchor SET seq = ?, hash = ?", head)
    assert report(tmp_path).anchor is AnchorState.FORGED


@pytest.mark.parametrize(
    ("note", "anchor", "verdict"),
    [
        ("UPDATE audit_anchor SET seq = ?, hash = ?, master_id = '0000000000000000'", AnchorState.FORGED, "BROKEN"),
        ("DELETE FROM audit_anchor WHERE 0 IN (?, ?) OR 1", AnchorState.ABSENT, "cannot be verified here"),
    ],
)
async def test_a_cut_with_a_note_of_no_key_or_none_is_never_whole_even_after_workers_wrote_on(
    tmp_path: Path, note: str, anchor: AnchorState, verdict: str
) -> None:
    await write_calls(tmp_path, "c1", "c2")
    edit(tmp_path, "DELETE FROM audit WHERE seq > 4; DELETE FROM calls WHERE call_id = 'c2'")
    with contextlib.closing(apsw.Connection(str(database_path(tmp_path, "acme")))) as connection:
        head = AuditTrail(connection=connection, tenant="acme", actor="x").head()
    with contextlib.closing(apsw.Connection(str(key_database_path(tmp_path, "acme", DATABASE)))) as keys:
        keys.execute(note, head)
    assert (report(tmp_path).anchor, report(tmp_path).verdict) == (anchor, verdict)
    await write_calls(tmp_path, "c3")
    assert (report(tmp_path).anchor, report(tmp_path).verdict) == (anchor, verdict)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE turns SET intent = 'other' WHERE call_id = 'c1' AND seq = 1",
        "DELETE FROM turns WHERE call_id = 'c1' AND seq = 2",
        "UPDATE turn_contents SET caller_text = agent_text WHERE call_id = 'c1'",
        "DELETE FROM turn_contents WHERE call_id = 'c1'",
    ],
)
async def test_turns_that_were_changed_after_the_call_are_found(tmp_path: Path, sql: str) -> None:
    await write_calls(tmp_path, "c1", "c2")
    edit(tmp_path, sql)
    assert report(tmp_path).altered_calls == ("c1",)
    assert not report(tmp_path).is_whole


async def test_the_log_cannot_be_changed_by_mistake(tmp_path: Path) -> None:
    await write_calls(tmp_path, "c1")
    with contextlib.closing(apsw.Connection(str(database_path(tmp_path, "acme")))) as connection:
        for sql in ("UPDATE audit SET at = 0", "DELETE FROM audit"):
            with pytest.raises(apsw.ConstraintError):
                connection.execute(sql)


async def test_two_workers_append_to_one_chain(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as one, CallStore(tmp_path, StoreSettings()) as two:
        await asyncio.gather(
            *((one if index % 2 else two).save(a_call(f"c{index}", ended=True)) for index in range(40))
        )
    assert report(tmp_path).entries == 120
    assert report(tmp_path).is_whole


async def test_a_chain_that_grows_while_it_is_verified_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "ANCHOR_EVERY_S", 0.0)
    async with CallStore(tmp_path, StoreSettings()) as store, asyncio.TaskGroup() as group:
        await store.save(a_call())
        writing = group.create_task(_write_on(store))
        for _ in range(30):
            assert (await asyncio.to_thread(report, tmp_path)).is_whole
        writing.cancel()


async def _write_on(store: CallStore) -> None:
    for number in itertools.count():
        await store.save(a_call(f"c{number}", ended=True))


def test_records_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(AuditMissingError):
        report(tmp_path)
