"""Real Litestreams and a real nats-server: replicas come by themselves, are watched, and can be restored."""

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import apsw
import pytest
from click.testing import CliRunner
from nats.aio.client import Client

from contract.litestream_config import DatabaseKind, NatsAccess, database_bucket
from edge.records.database import DatabaseSettings
from edge.records.keyring import Destroyed
from edge.records.model import ContentState
from edge.records.presence import RunId
from edge.records.store import CallReader, CallStore, StoreSettings
from edge.records.tenant import TenantRecords
from edge.replication.cli import records as records_command
from edge.replication.errors import ReplicaMissingError, RestoreTargetError
from edge.replication.restore import RestoreOrder, restore, restore_ledger
from edge.replication.service import ReplicationService
from edge.replication.watch import REPLICATION_STALLED, ReplicationWatch
from tests.edge.records.examples import ANNA, a_call, a_turn
from tests.edge.replication.conftest import NODE, Board, Server, running, settings, until

REPLICATED = DatabaseSettings()
STORE = StoreSettings(database=REPLICATED)
RECORDS = database_bucket(NODE, DatabaseKind.RECORDS, "acme")
KEYS = database_bucket(NODE, DatabaseKind.KEYS, "acme")


async def write_call(directory: Path, call_id: str = "c1", tenant: str = "acme") -> None:
    async with CallStore(directory, STORE) as store:
        await store.save(a_call(call_id, tenant=tenant))
        await store.save(a_turn(call_id=call_id, tenant=tenant))
        await store.save(a_call(call_id, tenant=tenant, ended=True))


async def caught_up(service: ReplicationService, *buckets: str) -> None:
    """The replicas are there and have all."""
    await until(lambda: set(buckets) <= set(service.watch.lags))
    await until(lambda: all(service.watch.lags[bucket] == 0.0 for bucket in buckets))


def order(server: Server, target: Path, **changes: object) -> RestoreOrder:
    return RestoreOrder(tenant="acme", from_node=NODE, target=target, nats=NatsAccess(url=server.url), **changes)  # type: ignore[arg-type]


def master_key(records: Path) -> DatabaseSettings:
    return DatabaseSettings(master_key_file=records / "keys" / "master.key")


async def test_records_of_a_lost_node_come_back_whole(tmp_path: Path, server: Server, client: Client) -> None:
    records = tmp_path / "records"
    service = ReplicationService(settings(tmp_path, server, records), client.jetstream(), Board())
    async with running(service.run()):
        await write_call(records)
        await caught_up(service, RECORDS, KEYS)
        await write_call(records, "c2")
        await caught_up(service, RECORDS, KEYS)
    restored = tmp_path / "restored"
    report = await restore(order(server, restored, database=master_key(records)))
    assert report.audit.is_whole
    assert (report.lost_entries, report.unreadable_contents, report.is_entered) == (0, 0, True)
    reader = CallReader(restored, "acme", master_key(records))
    assert reader.turns("c1") == (a_turn(call_id="c1"),)
    assert reader.turns("c2") == (a_turn(call_id="c2"),)
    with pytest.raises(RestoreTargetError):
        await restore(order(server, restored))


async def test_a_sibling_without_the_master_key_gets_sealed_records(
    tmp_path: Path, server: Server, client: Client
) -> None:
    records = tmp_path / "records"
    service = ReplicationService(settings(tmp_path, server, records), client.jetstream(), Board())
    async with running(service.run()):
        await write_call(records)
        await caught_up(service, RECORDS, KEYS)
    result = await asyncio.to_thread(
        CliRunner().invoke,
        records_command,
        [
            "restore",
            "--tenant",
            "acme",
            "--from-node",
            NODE,
            "--to",
            str(tmp_path / "to"),
            "--nats",
            server.url,
            "--json",
        ],
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["is_entered"] is False
    (turn,) = CallReader(tmp_path / "to", "acme", DatabaseSettings()).turns("c1")
    assert turn.content_state is ContentState.SEALED


async def test_a_new_tenant_is_replicated_without_a_word(tmp_path: Path, server: Server, client: Client) -> None:
    records = tmp_path / "records"
    service = ReplicationService(settings(tmp_path, server, records), client.jetstream(), Board())
    async with running(service.run()):
        await write_call(records)
        await caught_up(service, RECORDS)
        await write_call(records, tenant="zeta")
        zeta = database_bucket(NODE, DatabaseKind.RECORDS, "zeta")
        await caught_up(service, RECORDS, zeta)
        await write_call(records, "c2")
        await caught_up(service, RECORDS, zeta)


async def test_a_frozen_litestream_is_noticed_and_the_alarm_goes_when_it_wakes(
    tmp_path: Path, server: Server, client: Client
) -> None:
    records, board = tmp_path / "records", Board()
    node = settings(tmp_path, server, records)
    service = ReplicationService(node, client.jetstream(), Board())
    watch = ReplicationWatch(
        client.jetstream(), node=NODE, directory=records, database=REPLICATED, alarms=board, stalled_after_s=1.5
    )
    async with running(service.run()), running(watch.run()):
        await write_call(records)
        await caught_up(service, RECORDS, KEYS)
        await until(lambda: RECORDS in watch.lags and board.raised == set())
        pids = litestreams(node.litestream.directory)
        assert len(pids) == 2
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            await write_call(records, "c2")
            await until(lambda: board.raised == {REPLICATION_STALLED} and RECORDS in watch.stalled)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        await until(lambda: board.raised == set())


async def test_a_killed_litestream_is_started_again(tmp_path: Path, server: Server, client: Client) -> None:
    records = tmp_path / "records"
    node = settings(tmp_path, server, records)
    service = ReplicationService(node, client.jetstream(), Board())
    async with running(service.run()):
        await write_call(records)
        await caught_up(service, RECORDS, KEYS)
        before = litestreams(node.litestream.directory)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await write_call(records, "c2")
        await until(lambda: len(litestreams(node.litestream.directory) - before) == 2)
        await caught_up(service, RECORDS, KEYS)


async def test_a_destroyed_key_is_overwritten_under_a_running_litestream(
    tmp_path: Path, server: Server, client: Client
) -> None:
    records = tmp_path / "records"
    service = ReplicationService(settings(tmp_path, server, records), client.jetstream(), Board())
    async with running(service.run()):
        await write_call(records)
        await caught_up(service, RECORDS, KEYS)
        destroyed = await asyncio.to_thread(destroy, records)
        assert destroyed.is_overwritten
        await caught_up(service, RECORDS, KEYS)
    report = await restore(order(server, tmp_path / "to", database=master_key(records)))
    assert report.audit.is_whole
    (turn,) = CallReader(tmp_path / "to", "acme", master_key(records)).turns("c1")
    assert turn.content_state is ContentState.ERASED


def destroy(records: Path) -> Destroyed:
    opened = TenantRecords.open(records, "acme", REPLICATED, actor="user:test", run=RunId("test"))
    with contextlib.closing(opened):
        return opened.destroy_key(ANNA)


@pytest.mark.parametrize("step", ["look", "sweep"])
async def test_a_cancellation_that_nats_swallowed_still_ends_the_service(
    tmp_path: Path, server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    service = ReplicationService(settings(tmp_path, server, tmp_path / "records"), client.jetstream(), Board())
    waiting = asyncio.Event()

    async def swallow() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            waiting.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(service.watch, step, swallow)
    async with asyncio.timeout(20.0), asyncio.TaskGroup() as tasks:
        running_service = tasks.create_task(service.run())
        await waiting.wait()
        running_service.cancel()
        done, _ = await asyncio.wait([running_service], timeout=5.0)
        assert done == {running_service}


async def test_what_was_never_replicated_is_named(tmp_path: Path, server: Server, client: Client) -> None:
    with pytest.raises(ReplicaMissingError):
        await restore(order(server, tmp_path / "to"))
    assert list((tmp_path / "to").rglob("*.sqlite3")) == []


def litestreams(directory: Path) -> set[int]:
    """The processes that run with settings of this folder."""
    found = set()
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if process.name.isdigit() and str(directory).encode() in (process / "cmdline").read_bytes():
                found.add(int(process.name))
    return found


async def test_the_ledger_of_rollups_is_replicated_and_restored(tmp_path: Path, server: Server, client: Client) -> None:
    ledger = tmp_path / "sync" / "rollups.db"
    ledger.parent.mkdir()
    node = settings(tmp_path, server, tmp_path / "records")
    node = node.model_copy(update={"records": node.records.model_copy(update={"ledger": ledger})})
    service = ReplicationService(node, client.jetstream(), Board())
    bucket = database_bucket(NODE, DatabaseKind.LEDGER, "rollups")
    async with running(service.run()):
        with contextlib.closing(apsw.Connection(str(ledger))) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.wal_autocheckpoint(0)
            connection.execute("CREATE TABLE watermarks (tenant, seq); INSERT INTO watermarks VALUES ('acme', 17)")
            await caught_up(service, bucket)
    restored = tmp_path / "restored.db"
    await restore_ledger(NODE, restored, NatsAccess(url=server.url))
    with contextlib.closing(apsw.Connection(str(restored))) as connection:
        assert connection.execute("SELECT * FROM watermarks").fetchall() == [("acme", 17)]
