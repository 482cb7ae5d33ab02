"""Sums at the hub are those of all nodes, whatever is sent twice, and stay so when they get coarser."""

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from contract.sketch import LatencySketch
from contract.uplink_pb2 import Entry, Rollup
from controlplane.database import HubDatabase
from controlplane.rollups import store
from controlplane.rollups.keeper import Retention, RollupKeeper
from controlplane.rollups.metrics import OTHER_TENANTS, PAIRS_SHOWN, RollupMetrics
from controlplane.rollups.querying import grouped
from controlplane.rollups.store import Outcome, Refusal, Selection
from edge.rollups.cut import EndedCall, count
from tests.controlplane.rollups.reports import NOW_MS, calls, payload, rollup, some_rollup

DAY_MS = 86_400_000


async def counted(database: HubDatabase, made: Rollup) -> Outcome:
    return await database.write(lambda connection: store.count(connection, made, payload(made), NOW_MS))


async def entries(database: HubDatabase, selection: Selection | None = None) -> list[Entry]:
    chosen = selection or Selection()
    return await database.read(lambda connection: [stored.entry for stored in store.read_entries(connection, chosen)])


async def responses(database: HubDatabase) -> LatencySketch:
    total = LatencySketch()
    for entry in await entries(database):
        total.merge(entry.turns.response_ms)
    return total


def latencies(made: list[EndedCall]) -> list[int]:
    return [turn.latencies_ms["response_ms"] for call in made for turn in call.turns]


async def test_a_rollup_is_counted_once_and_a_different_one_of_its_number_is_seen(database: HubDatabase) -> None:
    first, other = some_rollup(seed=1), some_rollup(seed=2)
    assert await counted(database, first) is Outcome.COUNTED
    assert await counted(database, first) is Outcome.REPEATED
    assert await counted(database, other) is Outcome.CONFLICTING
    (sums,) = await database.read(store.read_nodes)
    assert (sums.counted, sums.repeated, sums.conflicting, sums.calls) == (1, 1, 1, 5)
    assert sum(entry.calls.total for entry in await entries(database)) == 5


async def test_the_same_minute_of_many_nodes_is_one_row_and_its_percentiles_are_exact_to_a_half_percent(
    database: HubDatabase,
) -> None:
    made = {f"in-south-{node}": calls(80, node) for node in range(8)}
    for node, of_node in made.items():
        await counted(database, rollup(count(of_node), node=node))
    keys = {(entry.minute, entry.intent) for entry in await entries(database)}
    assert len(await entries(database)) == len(keys)
    raw = [value for of_node in made.values() for value in latencies(of_node)]
    exact = np.percentile(raw, [50, 95, 99])
    assert (await responses(database)).quantiles([0.5, 0.95, 0.99]) == pytest.approx(exact, rel=0.005)


async def test_regions_tenants_and_times_are_chosen_apart(database: HubDatabase) -> None:
    await counted(database, rollup(count(calls(4, 1))))
    await counted(database, rollup(count(calls(3, 2, "bank"))))
    await counted(database, rollup(count(calls(3, 2, "bank")), seq=2))
    await counted(database, rollup(count(calls(2, 3)), region="eu-central", node="eu-central-1"))

    async def number(selection: Selection) -> int:
        return sum(entry.calls.total for entry in await entries(database, selection))

    assert await number(Selection()) == 9
    assert await number(Selection(region="eu-central")) == 2
    assert await number(Selection(tenant="bank", region="in-south")) == 3
    assert await number(Selection(end_minute=NOW_MS // 60_000 - 60)) == 0
    assert await number(Selection(first_minute=NOW_MS // 60_000 - 60, end_minute=NOW_MS // 60_000 + 60)) == 9


async def test_groups_are_by_tenant_or_by_intent_with_the_same_sums(database: HubDatabase) -> None:
    await counted(database, rollup(count([*calls(30, 1), *calls(20, 2, "bank")])))
    stored = await database.read(lambda connection: list(store.read_entries(connection, Selection())))
    plain, by_intent = list(grouped(stored, by_intent=False)), list(grouped(stored, by_intent=True))
    assert [(group.key.tenant, group.calls.total) for group in plain] == [("acme", 30), ("bank", 20)]
    assert sum(group.calls.total for group in by_intent) == 50
    assert sum(group.turns.total for group in by_intent) == sum(group.turns.total for group in plain)
    assert {group.key.intent for group in by_intent} >= {"price", "hours", "slot"}


async def test_old_minutes_become_hours_and_days_and_lose_no_count(database: HubDatabase) -> None:
    made = []
    for day in range(6):
        of_day = calls(40, day, now_ms=NOW_MS - day * DAY_MS)
        made += of_day
        await counted(database, rollup(count(of_day), seq=day + 1))
    before = (await responses(database)).quantiles([0.5, 0.95, 0.99])
    rows = len(await entries(database))
    keeper = RollupKeeper(
        database,
        metrics=RollupMetrics.create(CollectorRegistry()),
        retention=Retention(minute_days=1, hour_days=3, day_days=5),
    )
    await keeper.tidy(NOW_MS)
    left = await entries(database)
    assert len(left) < rows
    assert sum(entry.calls.total for entry in left) == 200
    late = rollup(count(calls(40, 1, now_ms=NOW_MS - 2 * DAY_MS)), seq=99)
    await counted(database, late)
    await keeper.tidy(NOW_MS)
    assert sum(entry.calls.total for entry in await entries(database)) == sum(entry.calls.total for entry in left) + 40
    assert before == pytest.approx((await responses(database)).quantiles([0.5, 0.95, 0.99]), rel=0.1)


async def test_numbers_that_were_forgotten_still_count_as_seen(database: HubDatabase) -> None:
    for seq in (1, 2, 3):
        await counted(database, some_rollup(seed=seq, seq=seq))
    forget_all = NOW_MS + 1
    await database.write(
        lambda connection: store.forget(connection, entries_before_minute=0, seqs_before_ms=forget_all)
    )
    assert await counted(database, some_rollup(seed=2, seq=2)) is Outcome.REPEATED
    assert await counted(database, some_rollup(seed=4, seq=4)) is Outcome.COUNTED
    assert await counted(database, some_rollup(seed=1, seq=1, node="in-south-2")) is Outcome.COUNTED


async def test_a_refusal_is_noted_once_by_the_field_that_was_wrong(database: HubDatabase) -> None:
    refusal = Refusal(
        stream_seq=3, sent_at_ms=NOW_MS, region="in-south", node="in-south-1", problem="entries.intent: is not known"
    )
    for _ in range(2):
        await database.write(lambda connection: store.refuse(connection, refusal))
    assert await database.read(store.count_refusals) == 1
    assert await database.read(lambda connection: store.read_refusals(connection, 10)) == (refusal,)


async def test_metrics_show_a_bounded_number_of_tenants(database: HubDatabase) -> None:
    registry = CollectorRegistry()
    metrics = RollupMetrics.create(registry)
    for number in range(PAIRS_SHOWN + 50):
        metrics.count_rollup(rollup(count(calls(1, number, f"tenant-{number}"))))
    tenants = {
        sample.labels["tenant"]
        for family in registry.collect()
        if family.name == "borough_hub_turns"
        for sample in family.samples
    }
    assert len(tenants) == PAIRS_SHOWN + 1
    assert OTHER_TENANTS in tenants


async def test_percentiles_of_the_newest_hour_are_shown_in_seconds(database: HubDatabase) -> None:
    registry = CollectorRegistry()
    metrics = RollupMetrics.create(registry)
    made = calls(200, 1)
    await counted(database, rollup(count(made)))
    await RollupKeeper(database, metrics=metrics).show(NOW_MS)
    labels = {"region": "in-south", "tenant": "acme", "stage": "response", "quantile": "0.95"}
    shown = registry.get_sample_value("borough_hub_latency_seconds", labels)
    assert shown == pytest.approx(np.percentile(latencies(made), 95) / 1000, rel=0.01)
