"""Exactly once from a node's ledger to the hub's store, over a real nats-server, through every kind of loss."""

import asyncio
import contextlib
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from nats.aio.client import Client
from nats.errors import ConnectionClosedError
from nats.js.errors import NotFoundError
from prometheus_client import CollectorRegistry

from contract.sketch import LatencySketch
from contract.subjects import ROLLUP_STREAM
from contract.subjects import rollup as rollup_subject
from contract.uplink_pb2 import Rollup
from controlplane.database import HubDatabase
from controlplane.rollups import ingest as ingest_module
from controlplane.rollups import store
from controlplane.rollups.ingest import CONSUMER, RollupIngest
from controlplane.rollups.metrics import RollupMetrics
from controlplane.rollups.store import Selection
from controlplane.streams import ensure_streams
from edge.rollups.ledger import RollupLedger
from tests.controlplane.nats_server import NatsServer, connected
from tests.controlplane.rollups.reports import NOW_MS, Names, payload, some_rollup, subject_of
from tests.edge.rollups.node_records import Call, NodeRecords, Turn

WITHIN_S = 20.0
WORDS = "anna asked for a loan"


@contextlib.asynccontextmanager
async def taking(
    client: Client,
    database: HubDatabase,
    registry: CollectorRegistry | None = None,
    ack_wait_s: float = 30.0,
    names: Names | None = None,
) -> AsyncIterator[None]:
    """Take rollups inside the block."""
    metrics = RollupMetrics.create(registry or CollectorRegistry())
    ingest = RollupIngest(
        client, database, names=names or Names(), metrics=metrics, ack_wait_s=ack_wait_s, try_kept_every_ms=50
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ingest.run())
        yield
        task.cancel()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not await true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def nothing_kept(database: HubDatabase) -> bool:
    return await database.read(lambda connection: store.kept(connection, time.time_ns(), 10)) == []


async def nothing_waits(client: Client) -> bool:
    try:
        info = await client.jetstream().consumer_info(ROLLUP_STREAM, CONSUMER)
    except NotFoundError:
        return False
    return (info.num_pending, info.num_ack_pending) == (0, 0)


async def counted(database: HubDatabase) -> Counter[str]:
    nodes = await database.read(store.read_nodes)
    sums: Counter[str] = Counter()
    for node in nodes:
        sums.update(counted=node.counted, repeated=node.repeated, conflicting=node.conflicting, calls=node.calls)
    return sums


def files_of(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


async def publish(client: Client, made: Rollup) -> None:
    await client.jetstream().publish(subject_of(made), payload(made))


async def test_rollups_are_counted_and_acknowledged(nats: Client, database: HubDatabase) -> None:
    await ensure_streams(nats, [])
    registry = CollectorRegistry()
    for seq in range(1, 151):
        await publish(nats, some_rollup(2, seq, seq=seq))
    async with taking(nats, database, registry):
        await until(lambda: nothing_waits(nats))
    assert await counted(database) == Counter(counted=150, calls=300, repeated=0, conflicting=0)
    assert registry.get_sample_value("borough_hub_rollups_total", {"outcome": "counted"}) == 150
    outcomes = [
        registry.get_sample_value(
            "borough_hub_calls_total", {"region": "in-south", "tenant": "acme", "outcome": outcome}
        )
        for outcome in ("contained", "escalated", "abandoned", "failed")
    ]
    assert sum(number or 0 for number in outcomes) == 300


async def test_a_rollup_that_was_sent_again_counts_once(nats: Client, database: HubDatabase) -> None:
    await ensure_streams(nats, [])
    async with taking(nats, database):
        for _ in range(3):
            await publish(nats, some_rollup(4, 1, seq=7))
        await publish(nats, some_rollup(9, 2, seq=7))
        await until(lambda: nothing_waits(nats))
    assert await counted(database) == Counter(counted=1, calls=4, repeated=2, conflicting=1)


async def test_what_says_more_than_counts_is_refused_erased_and_holds_up_nothing(
    nats: Client, database: HubDatabase, tmp_path: Path
) -> None:
    await ensure_streams(nats, [])
    registry = CollectorRegistry()
    spoiled = some_rollup(3, 1, seq=1)
    spoiled.entries[0].intent = "anna-asked-for-a-loan"
    jetstream = nats.jetstream()
    await jetstream.publish(rollup_subject("in-south", "in-south-1"), WORDS.encode())
    await publish(nats, spoiled)
    await jetstream.publish(rollup_subject("in-south", "in-south-1"), payload(some_rollup()) + b"\xfa\x3e\x03bye")
    await jetstream.publish("up.in-south.rollup.Anna_4930123456", payload(some_rollup()))
    await publish(nats, some_rollup(3, 1, seq=2))
    async with taking(nats, database, registry):
        await until(lambda: nothing_waits(nats))
    assert await counted(database) == Counter(counted=1, calls=3, repeated=0, conflicting=0)
    assert await database.read(store.count_refusals) == 4
    assert registry.get_sample_value("borough_hub_rollups_total", {"outcome": "refused"}) == 4
    told = registry.get_sample_value("borough_hub_rollup_refused_timestamp_seconds", {"region": "in-south"})
    assert told is not None
    assert time.time() - told < WITHIN_S
    refusals = await database.read(lambda connection: store.read_refusals(connection, 10))
    assert {refusal.node for refusal in refusals} == {"in-south-1", ""}
    assert (await jetstream.stream_info(ROLLUP_STREAM)).state.messages == 1
    blocks = files_of(tmp_path, "nats/**/*.blk")
    assert blocks
    for file in blocks:
        content = file.read_bytes()
        assert WORDS.encode() not in content
        assert b"anna-asked-for-a-loan" not in content
    for file in files_of(tmp_path, "hub.sqlite3*"):
        assert b"anna" not in file.read_bytes().lower()


async def test_what_is_not_known_yet_is_kept_and_counted_later(
    nats: Client, database: HubDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub's documents were restored: a version and its intents are unknown until they are applied again. What names
    nothing of ours under a version that the hub has is erased at once, and what stays unknown after a while."""
    monkeypatch.setattr(ingest_module, "RETRY_AFTER_S", 0.2)
    await ensure_streams(nats, [])
    registry, names = CollectorRegistry(), Names(intents_known={"hours"}, bundles_lost={17})
    ahead, hostile = some_rollup(3, 2, seq=2, node="in-south-2"), some_rollup(3, 1, seq=3, node="in-south-3")
    for entry in ahead.entries:
        entry.agent_version = "19"
    for entry in hostile.entries:
        entry.agent_version = "16"
    hostile.entries[0].intent = "anna-asked-for-a-loan"
    early = some_rollup(3, 4, seq=4, node="in-south-4")
    early.entries[0].minute = time.time_ns() // 60_000_000_000 + 60
    lost = some_rollup(9, 1, seq=1)
    assert "price" in {entry.intent for entry in lost.entries}
    for made in (lost, ahead, hostile, early):
        await publish(nats, made)
    async with taking(nats, database, registry, names=names):
        await until(lambda: nothing_waits(nats))
        assert (await counted(database))["counted"] == 0
        assert registry.get_sample_value("borough_hub_rollups_total", {"outcome": "kept"}) == 3
        assert await in_stream(nats) == 3
        names.intents_known.add("price")
        await until(lambda: all_counted(database, 1))
        names.bundle = 19
        await until(lambda: all_counted(database, 2))
        assert await in_stream(nats) == 3
        monkeypatch.setattr(ingest_module, "KEPT_MS", 0)
        await until(lambda: holds(nats, 2))
        # The stream first, then the database.
        await until(lambda: nothing_kept(database))
    assert registry.get_sample_value("borough_hub_rollups_total", {"outcome": "refused"}) == 2
    assert await counted(database) == Counter(counted=2, calls=12, repeated=0, conflicting=0)


async def in_stream(client: Client) -> int:
    return (await client.jetstream().stream_info(ROLLUP_STREAM)).state.messages


async def holds(client: Client, number: int) -> bool:
    return await in_stream(client) == number


async def test_answers_that_are_lost_after_the_commit_change_nothing(
    nats_server: NatsServer, nats: Client, database: HubDatabase
) -> None:
    """The batch is stored, then the connection is gone before any acknowledgement, and the server is killed too."""
    await ensure_streams(nats, [])
    for seq in range(1, 11):
        await publish(nats, some_rollup(2, seq, seq=seq))
    async with taking(nats, database, ack_wait_s=2.0):
        await until(lambda: nothing_waits(nats))
    for seq in range(11, 21):
        await publish(nats, some_rollup(2, seq, seq=seq))
    async with connected(nats_server) as gone:
        metrics = RollupMetrics.create(CollectorRegistry())
        ingest = RollupIngest(gone, database, names=Names(), metrics=metrics)
        subscription = await gone.jetstream().pull_subscribe_bind(CONSUMER, stream=ROLLUP_STREAM)
        messages = await subscription.fetch(64, timeout=2)
        await gone.close()
        with pytest.raises(ConnectionClosedError):
            await ingest.take(messages)
    await nats_server.stop()
    await nats_server.start()
    async with connected(nats_server) as again, taking(again, database):
        await until(lambda: nothing_waits(again))
    sums = await counted(database)
    assert (sums["counted"], sums["calls"], sums["conflicting"]) == (20, 40, 0)
    assert sums["repeated"] > 0


async def test_a_hub_restored_from_a_backup_reads_again_what_it_lost(nats: Client, tmp_path: Path) -> None:
    await ensure_streams(nats, [])
    path, backup = tmp_path / "hub.sqlite3", tmp_path / "backup"
    for first in (1, 21):
        for seq in range(first, first + 20):
            await publish(nats, some_rollup(2, seq, seq=seq))
        async with HubDatabase(path) as database, taking(nats, database):
            await until(lambda: nothing_waits(nats))
        if first == 1:
            shutil.copy(path, backup)
    for file in files_of(tmp_path, "hub.sqlite3*"):
        file.unlink()
    shutil.copy(backup, path)
    async with HubDatabase(path) as database, taking(nats, database):
        await until(lambda: all_counted(database, 40))
        assert await counted(database) == Counter(counted=40, calls=80, repeated=0, conflicting=0)


async def all_counted(database: HubDatabase, number: int) -> bool:
    return (await counted(database))["counted"] >= number


async def test_a_stream_that_was_made_anew_is_read_from_its_beginning(nats: Client, database: HubDatabase) -> None:
    await ensure_streams(nats, [])
    for seq in range(1, 6):
        await publish(nats, some_rollup(2, seq, seq=seq))
    async with taking(nats, database):
        await until(lambda: nothing_waits(nats))
    await nats.jetstream().delete_stream(ROLLUP_STREAM)
    await ensure_streams(nats, [])
    for seq in range(4, 9):
        await publish(nats, some_rollup(2, seq, seq=seq))
    async with taking(nats, database):
        await until(lambda: nothing_waits(nats))
    assert await counted(database) == Counter(counted=8, calls=16, repeated=2, conflicting=0)


async def test_a_hub_that_is_killed_again_and_again_counts_every_rollup_once(
    nats_server: NatsServer, nats: Client, tmp_path: Path
) -> None:
    await ensure_streams(nats, [])
    path, dice, seq = tmp_path / "killed.sqlite3", random.Random(3), 0  # noqa: S311 - no secret
    for _ in range(5):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.controlplane.rollups.ingesting", str(path), nats_server.url)
        )
        try:
            deadline = time.monotonic() + 0.9 + dice.random()
            while time.monotonic() < deadline:
                seq += 1
                made = some_rollup(2, seq, seq=seq)
                await publish(nats, made)
                if dice.random() < 0.2:
                    await publish(nats, made)
                await asyncio.sleep(0.002)
        finally:
            process.kill()
            await process.wait()
    async with HubDatabase(path) as database, taking(nats, database):
        await until(lambda: nothing_waits(nats))
        sums = await counted(database)
    assert (sums["counted"], sums["calls"], sums["conflicting"]) == (seq, 2 * seq, 0)
    assert sums["repeated"] > 0


@pytest.mark.parametrize("seed", [1, 2])
async def test_the_ledgers_of_all_nodes_equal_the_hubs_store(
    nats: Client, database: HubDatabase, tmp_path: Path, seed: int
) -> None:
    """Three nodes of two regions; some answers are lost, so that rollups are sent twice."""
    await ensure_streams(nats, [])
    dice, sent_ms = random.Random(seed), []  # noqa: S311 - no secret
    nodes = (("in-south", "in-south-1"), ("in-south", "in-south-2"), ("eu-central", "eu-central-1"))
    totals: Counter[tuple[str, str, str]] = Counter()
    async with taking(nats, database):
        for region, node in nodes:
            records = NodeRecords(tmp_path / node / "records")
            with RollupLedger(tmp_path / node / "rollups.db", region, node) as ledger:
                for number in range(60):
                    turns = [Turn(intent="price", sent_ms=round(dice.paretovariate(1.2) * 150)) for _ in range(3)]
                    sent_ms += [turn.sent_ms for turn in turns if turn.sent_ms is not None]
                    records.add(
                        Call(
                            call_id=f"{node}-{number}",
                            tenant=dice.choice(["acme", "bank"]),
                            started_ms=NOW_MS + number * 9_000,
                            outcome=dice.choice(["contained", "abandoned", "escalated", "failed"]),
                            reason="complaint",
                            turns=tuple(turns),
                        )
                    )
                    if number % 7 == 0:
                        ledger.cut(records.directory, time.time())
                        for seq, body in ledger.waiting():
                            await nats.jetstream().publish(rollup_subject(region, node), body)
                            if dice.random() < 0.6:
                                ledger.confirm(seq)
                ledger.cut(records.directory, time.time())
                for seq, body in ledger.waiting():
                    await nats.jetstream().publish(rollup_subject(region, node), body)
                    ledger.confirm(seq)
                assert ledger.totals(is_confirmed=True) == ledger.totals(is_confirmed=False)
                for tenant, total in ledger.totals(is_confirmed=True).items():
                    for name in ("calls", "contained", "escalated", "abandoned", "failed", "turns", "silent"):
                        totals[region, tenant, name] += getattr(total, name)
        await until(lambda: nothing_waits(nats))
    stored = await database.read(lambda connection: list(store.read_entries(connection, Selection())))
    hub: Counter[tuple[str, str, str]] = Counter()
    responses = LatencySketch()
    for one in stored:
        calls, turns_of, where = one.entry.calls, one.entry.turns, (one.region, one.entry.tenant)
        responses.merge(turns_of.response_ms)
        hub[*where, "calls"] += calls.total
        hub[*where, "contained"] += calls.contained
        hub[*where, "escalated"] += sum(calls.escalated.values())
        hub[*where, "abandoned"] += calls.abandoned
        hub[*where, "failed"] += calls.failed
        hub[*where, "turns"] += turns_of.total
        hub[*where, "silent"] += turns_of.silent
    assert +hub == +totals
    assert (
        sum(hub[region, tenant, "calls"] for region in ("in-south", "eu-central") for tenant in ("acme", "bank")) == 180
    )
    assert (await counted(database))["repeated"] > 0
    exact = np.percentile(sent_ms, [50, 95, 99])
    assert responses.quantiles([0.5, 0.95, 0.99]) == pytest.approx(exact, rel=0.01)
