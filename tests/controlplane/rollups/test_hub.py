"""A whole hub process: rollups on its stream, `borough metrics` and `borough policy lint` at its admin API."""

import asyncio
import json
import time
from pathlib import Path

from click.testing import CliRunner, Result
from nats.aio.client import Client

from controlplane.cli.metrics import metrics
from controlplane.cli.policy import policy
from edge.cli import PluggedGroup
from edge.rollups.cut import CountedTurn, EndedCall, count
from tests.controlplane.estate_files import everything
from tests.controlplane.hub_process import Hub
from tests.controlplane.rollups.reports import payload, rollup, subject_of

borough = PluggedGroup("borough")
borough.add_command(metrics)
borough.add_command(policy)
WITHIN_S = 10.0


async def run(hub: Hub, *arguments: str) -> Result:
    context = hub.context("hub-1", hub.identity("vic", "viewer"))
    return await asyncio.to_thread(CliRunner().invoke, borough, [*arguments, "--context", str(context)])


def a_call(now_ms: int, tenant: str) -> EndedCall:
    turn = CountedTurn(
        seq=1,
        began_at_ms=now_ms - 9_000,
        intent="opening",
        confidence=0.9,
        was_interrupted=False,
        is_silent=False,
        latencies_ms={"response_ms": 250},
    )
    return EndedCall(
        tenant=tenant,
        agent="line",
        agent_version="1-3fa9c04d11ab",
        ended_at_ms=now_ms,
        duration_ms=9_000,
        outcome="contained",
        reason="goodbye",
        first_audio_ms=40,
        is_repeated=False,
        turns=(turn,),
    )


async def test_a_rollup_of_a_known_tenant_is_shown_and_one_of_a_stranger_is_refused(
    hub: Hub, nats: Client, tmp_path: Path
) -> None:
    estate = tmp_path / "estate"
    for file in everything():
        path = estate / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
    (estate / "bank/knowledge").mkdir()
    (estate / "bank/knowledge/branch.yaml").write_text("items: []\n")
    assert (await hub.run("apply", "-f", str(estate))).exit_code == 0

    now_ms = time.time_ns() // 1_000_000
    for seq, tenant in enumerate(("bank", "bank", "anna-called-about-a-loan"), start=1):
        made = rollup(count([a_call(now_ms, tenant)]), seq=seq, now_ms=now_ms)
        await nats.jetstream().publish(subject_of(made), payload(made))
    deadline = time.monotonic() + WITHIN_S
    while True:
        shown = json.loads((await run(hub, "metrics", "--json")).output)
        if int(shown["rollups_counted"]) + int(shown["rollups_refused"]) == 3:
            break
        assert time.monotonic() < deadline, hub.log("hub-1")
        await asyncio.sleep(0.05)
    assert [(row["region"], row["tenant"], row["calls"]) for row in shown["rows"]] == [("in-south", "bank", "2")]
    assert (shown["rollups_counted"], shown["rollups_refused"]) == ("2", "1")
    assert "anna" not in hub.log("hub-1")

    linted = await run(hub, "policy", "lint", "--strictest")
    assert "Not legal advice" in linted.output
    findings = json.loads((await run(hub, "policy", "lint", "--strictest", "--json")).output)["findings"]
    assert {finding["severity"] for finding in findings} <= {"error", "warning"}
    assert any(finding["rule"].startswith("tcpa.") for finding in findings)
    has_error = any(finding["severity"] == "error" for finding in findings)
    assert linted.exit_code == (2 if has_error else 0)
