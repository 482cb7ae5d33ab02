"""What `borough metrics` and `borough policy packs` show, over the admin API with real certificates."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import numpy as np
import pytest
from click.testing import CliRunner, Result
from nats.aio.client import Client
from prometheus_client import CollectorRegistry

from contract.admin_pb2_grpc import add_MetricsServicer_to_server
from contract.subjects import ROLLUP_STREAM
from contract.uplink_pb2 import Capacity
from controlplane.admin.gate import Gate, HandlerCollector, Services
from controlplane.admin.revocation import RevocationList
from controlplane.admin.server import AdminAddress, admin_server
from controlplane.audit import AuditLog
from controlplane.cli.metrics import metrics
from controlplane.cli.policy import policy
from controlplane.database import HubDatabase
from controlplane.rollups import store
from controlplane.rollups.ingest import RollupIngest
from controlplane.rollups.keeper import RollupKeeper
from controlplane.rollups.metrics import RollupMetrics
from controlplane.rollups.service import MetricsService
from controlplane.streams import ensure_streams
from edge.cli import PluggedGroup
from edge.rollups.cut import count
from tests.controlplane.certificates import Authority
from tests.controlplane.rollups.reports import Names, calls, payload, rollup, subject_of

borough = PluggedGroup("borough")
borough.add_command(metrics)
borough.add_command(policy)
NOW_MS = time.time_ns() // 1_000_000 - 60_000


@contextlib.asynccontextmanager
async def serving(database: HubDatabase, directory: Path, role: str = "viewer") -> AsyncIterator[Path]:
    """The metrics service behind the gate; yields a context file for a person of this role."""
    authority = Authority(directory / "identity")
    hub, person = authority.issue("hub-1", "controlplane"), authority.issue("ada", role)
    collector = HandlerCollector()
    add_MetricsServicer_to_server(MetricsService(database), collector)
    gate = Gate(RevocationList(None), lambda: "none", lambda _: None)
    gate.open(Services(handlers=collector.handlers, audit=AuditLog(database)))
    address = AdminAddress(host="127.0.0.1", port=0, authority=authority.ca, certificate=hub.certificate, key=hub.key)
    async with admin_server(address, gate) as server:
        context = directory / "context.toml"
        context.write_text(
            f'address = "127.0.0.1:{server.port}"\nauthority = "{authority.ca}"\n'
            f'certificate = "{person.certificate}"\nkey = "{person.key}"\n'
        )
        yield context


async def run(context: Path, *arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, borough, ["metrics", *arguments, "--context", str(context)])


async def filled(database: HubDatabase) -> list[int]:
    """Two tenants in one region, one in another; returns the response times of the first."""
    acme = calls(120, 1, now_ms=NOW_MS)
    made = [
        rollup(count([*acme, *calls(30, 2, "bank", now_ms=NOW_MS)])),
        rollup(count(calls(20, 3, now_ms=NOW_MS)), region="eu-central", node="eu-central-1"),
    ]
    for one in made:
        await database.write(lambda connection, one=one: store.count(connection, one, payload(one), NOW_MS))  # type: ignore[misc]
    return [turn.latencies_ms["response_ms"] for call in acme for turn in call.turns]


async def test_a_viewer_sees_containment_fcr_and_percentiles_by_region_and_tenant(
    database: HubDatabase, tmp_path: Path
) -> None:
    responses = await filled(database)
    async with serving(database, tmp_path) as context:
        shown = await run(context)
        as_json = json.loads((await run(context, "--json", "--since", "2h")).output)
        region = json.loads((await run(context, "--json", "--region", "in-south", "--tenant", "bank")).output)
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert lines[0].split()[:5] == ["REGION", "TENANT", "CALLS", "CONTAINED", "FCR"]
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["eu-central", "acme", "20"],
        ["in-south", "acme", "120"],
        ["in-south", "bank", "30"],
    ]
    assert "escalated: " in shown.output
    assert "2 rollups counted, 0 came again, 0 refused" in shown.output
    row = as_json["rows"][1]
    outcomes = [int(row[name]) for name in ("contained", "escalated", "abandoned", "failed")]
    assert sum(outcomes) == int(row["calls"]) == 120
    exact = np.percentile(responses, [50, 95, 99])
    found = [row["response_ms"][name] for name in ("p50", "p95", "p99")]
    assert found == pytest.approx(exact, rel=0.005)
    assert row["response_ms"]["maximum"] == max(responses)
    assert len(row["confidence"]) == 10
    assert [one["tenant"] for one in region["rows"]] == ["bank"]


async def test_slots_used_and_callers_refused_are_shown_by_node(
    nats: Client, database: HubDatabase, tmp_path: Path
) -> None:
    """Through the ingest: the highest of the time, the sum of the refused, each rollup once."""
    # Of this moment: the suite began long ago.
    now_ms = time.time_ns() // 1_000_000 - 60_000
    await ensure_streams(nats, [])
    registry = CollectorRegistry()
    shown_to = RollupMetrics.create(registry)
    ingest = RollupIngest(nats, database, names=Names(), metrics=shown_to)
    consumer = await nats.jetstream().pull_subscribe("up.>", "test", stream=ROLLUP_STREAM)
    for seq, (used, refused) in enumerate([(3, 0), (8, 2), (5, 1), (5, 1)]):
        made = rollup([], seq=min(seq, 2) + 1, now_ms=now_ms - min(seq, 2) * 600_000)
        made.capacity.MergeFrom(Capacity(slots=8, slots_used_peak=used, refused=refused))
        await nats.jetstream().publish(subject_of(made), payload(made))
    await ingest.take(await consumer.fetch(4, timeout=5))
    async with serving(database, tmp_path) as context:
        shown = await run(context)
        as_json = json.loads((await run(context, "--json", "--region", "in-south")).output)
        of_tenant = json.loads((await run(context, "--json", "--tenant", "acme")).output)
        newest = json.loads((await run(context, "--json", "--since", "5m")).output)
    assert ["in-south", "in-south-1", "8/8", "3"] in [line.split() for line in shown.output.splitlines()]
    node = {"region": "in-south", "node": "in-south-1", "slots": "8", "slots_used_peak": "8", "refused": "3"}
    assert as_json["capacity"] == [node]
    assert of_tenant["capacity"] == []
    assert newest["capacity"] == [{**node, "slots_used_peak": "3", "refused": "0"}]
    keeper = RollupKeeper(database, metrics=shown_to)
    await keeper.show(now_ms)
    labels = {"region": "in-south", "node": "in-south-1"}
    assert registry.get_sample_value("borough_hub_slots_used_peak", labels) == 8
    assert registry.get_sample_value("borough_hub_calls_refused", labels) == 3
    await keeper.tidy(now_ms + 4 * 86_400_000)
    assert await database.read(_capacity_rows) == [(0, 8, 8, 3)]
    await keeper.tidy(now_ms + 61 * 86_400_000)
    assert await database.read(_capacity_rows) == []


def _capacity_rows(connection: apsw.Connection) -> list[tuple[object, ...]]:
    sql = "SELECT sum(minute % 60), max(slots), max(used_peak), sum(refused) FROM rollup_capacity GROUP BY region"
    return list(connection.execute(sql))


async def test_rows_by_intent_add_up_to_the_tenant(database: HubDatabase, tmp_path: Path) -> None:
    await filled(database)
    async with serving(database, tmp_path) as context:
        shown = await run(context, "--by-intent", "--region", "in-south", "--tenant", "acme", "--json")
        table = await run(context, "--by-intent")
    rows = json.loads(shown.output)["rows"]
    assert sum(int(row["calls"]) for row in rows) == 120
    assert {row["intent"] for row in rows} >= {"price", "hours"}
    assert "INTENT" in table.output.splitlines()[0]


async def test_nothing_is_shown_of_another_time_and_wrong_times_are_refused(
    database: HubDatabase, tmp_path: Path
) -> None:
    await filled(database)
    async with serving(database, tmp_path) as context:
        old = json.loads((await run(context, "--since", "1m", "--region", "nowhere", "--json")).output)
        wrong = await run(context, "--since", "yesterday")
    assert old["rows"] == []
    assert wrong.exit_code == 2
    assert "30m, 24h, 7d" in wrong.stderr


async def test_a_person_without_a_role_sees_nothing(database: HubDatabase, tmp_path: Path) -> None:
    async with serving(database, tmp_path, role="janitor") as context:
        refused = await run(context)
    assert refused.exit_code == 1
    assert "hub.unknown_caller" in refused.stderr


def test_packs_are_listed_and_shown_with_their_articles() -> None:
    listed = CliRunner().invoke(borough, ["policy", "packs", "list", "--json"])
    assert [pack["pack"] for pack in json.loads(listed.output)] == ["dpdp", "gdpr", "tcpa"]
    shown = CliRunner().invoke(borough, ["policy", "packs", "show", "gdpr"])
    assert "gdpr.recording.consent" in shown.output
    assert "Not legal advice" in shown.output
    strict = json.loads(CliRunner().invoke(borough, ["policy", "packs", "show", "--strictest", "--json"]).output)
    by_kind = {(rule["kind"], rule["of"]): rule["value"] for rule in strict}
    assert by_kind["recording_consent", ""] == "opt_in"
    assert by_kind["deadline_days", "withdrawal"] == "1"
    assert CliRunner().invoke(borough, ["policy", "packs", "show"]).exit_code == 2
    unknown = CliRunner().invoke(borough, ["policy", "packs", "show", "ccpa"])
    assert (unknown.exit_code, "jurisdiction.unknown_pack" in unknown.stderr) == (1, True)
