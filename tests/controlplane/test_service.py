"""A whole hub as operators meet it: the command line, mutual TLS, a real nats-server, and kills."""

import asyncio
import contextlib
import json
import time
from pathlib import Path

import aiohttp
import apsw
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from contract.downlink_pb2 import Beat, BundleManifest, BundleMessage
from contract.subjects import bundle, config_beat, config_stream, health, knowledge_beat, knowledge_stream, ping
from contract.uplink_pb2 import Health
from tests.controlplane.certificates import Authority
from tests.controlplane.estate_files import everything
from tests.controlplane.hub_process import TTL_S, Hub
from tests.controlplane.nats_server import NatsServer


def write_estate(directory: Path) -> Path:
    for file in everything():
        path = directory / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
    (directory / "bank/knowledge").mkdir()
    (directory / "bank/knowledge/branch.yaml").write_text("items: []\n")
    return directory


async def stored_version(nats: Client, region: str) -> int:
    message = await nats.jetstream().get_last_msg(config_stream(region), bundle(region))
    return BundleManifest.FromString(BundleMessage.FromString(message.data or b"").manifest.body).version


async def fetch(hub: Hub, instance: str, path: str) -> tuple[int, str]:
    url = f"http://127.0.0.1:{hub.metrics_port(instance)}/{path}"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, await response.text()


async def test_an_operator_applies_looks_rolls_back_and_the_regions_get_it(
    hub: Hub, nats: Client, tmp_path: Path
) -> None:
    estate = write_estate(tmp_path / "estate")
    tried = await hub.run("apply", "-f", str(estate), "--dry-run")
    assert "tenant/bank created (dry run)" in tried.output
    assert "region in-south would get bundle 1" in tried.output
    done = await hub.run("apply", "-f", str(estate))
    assert (done.exit_code, "region eu-central gets bundle 1" in done.output) == (0, True), done.output

    agent = estate / "bank/agent.yaml"
    agent.write_text(agent.read_text().replace("Hello from bank.", "Welcome."))
    assert "agent/bank/line updated" in (await hub.run("apply", "-f", str(estate))).output
    listed = json.loads((await hub.run("get", "agents", "--json")).output)
    assert [stored["document"]["revision"] for stored in listed["documents"]] == [2, 1]
    assert "greeting: Welcome." in (await hub.run("get", "agent", "bank/line")).output
    assert "Revision:  1" in (await hub.run("describe", "agent", "bank/line", "--revision", "1")).output
    assert "agent/bank/line updated" in (await hub.run("rollback", "agent", "bank/line")).output
    assert "Hello from bank." in (await hub.run("get", "agent", "bank/line")).output
    shown = (await hub.run("history", "agent", "bank/line")).output.splitlines()
    assert [line.split()[0] for line in shown] == ["REVISION", "3", "2", "1"]
    assert "[region" not in shown[1]

    deadline = time.monotonic() + 5
    while await stored_version(nats, "in-south") != 3:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    _, metrics = await fetch(hub, "hub-1", "metrics")
    assert "borough_hub_active 1.0" in metrics
    assert 'borough_hub_bundles_published_total{region="in-south"} 3.0' in metrics


async def test_what_is_wrong_is_refused_with_its_line_and_exit_code_2(hub: Hub, tmp_path: Path) -> None:
    estate = write_estate(tmp_path / "estate")
    agent = estate / "bank/agent.yaml"
    agent.write_text(agent.read_text().replace("policy: careful", "policy: carefull"))
    refused = await hub.run("apply", "-f", str(estate))
    assert refused.exit_code == 2
    assert f"{agent}:8: spec.policy: 'carefull' is not a policy" in refused.stderr
    assert "did you mean 'careful'?" in refused.stderr
    as_json = await hub.run("apply", "-f", str(estate), "--json")
    assert json.loads(as_json.stderr)["error"]["code"] == "hub.documents_refused"
    assert json.loads((await hub.run("get", "all", "--json")).output)["documents"] == []


async def test_roles_decide_and_every_refused_mutation_is_audited(hub: Hub, tmp_path: Path) -> None:
    estate = str(write_estate(tmp_path / "estate"))
    refused = await hub.run("apply", "-f", estate, person="vic", role="viewer")
    assert (refused.exit_code, "hub.not_allowed" in refused.stderr) == (1, True)
    assert (await hub.run("get", "all", person="vic", role="viewer")).exit_code == 0
    assert (await hub.run("admin", "audit", "list")).exit_code == 1
    stranger = await hub.run("get", "all", person="bob", role="janitor")
    assert "hub.unknown_caller" in stranger.stderr
    await hub.run("apply", "-f", estate)
    shown = json.loads((await hub.run("admin", "audit", "list", "--json", person="cora", role="compliance")).output)
    outcomes = [(entry["actor"], entry["action"], entry["outcome"]) for entry in shown["entries"]]
    assert outcomes[-1] == ("hub", "lease.taken", "ok")
    assert outcomes[-2] == ("vic", "Documents.Apply", "hub.not_allowed")
    assert outcomes[0] == ("ada", "documents.apply", "ok")


async def test_a_revoked_certificate_is_refused_at_once(hub: Hub) -> None:
    assert (await hub.run("get", "all")).exit_code == 0
    serial = hub.identity("ada", "operator").serial
    hub.revoked.write_text(json.dumps({"serials": [f"{serial:x}"]}))
    assert "hub.revoked" in (await hub.run("get", "all")).stderr
    hub.revoked.write_text("not json")
    assert "hub.revocation_list" in (await hub.run("get", "all")).stderr


async def test_a_certificate_of_another_authority_does_not_get_in(hub: Hub, tmp_path: Path) -> None:
    foreign = Authority(tmp_path / "foreign", name="Another CA").issue("ada", "admin")
    result = await hub.run("get", "all", identity=foreign)
    assert (result.exit_code, "hub.unreachable" in result.stderr) == (1, True)


async def test_tampering_with_the_audit_log_is_found(hub: Hub, tmp_path: Path) -> None:
    await hub.run("apply", "-f", str(write_estate(tmp_path / "estate")))
    whole = await hub.run("admin", "audit", "verify", person="cora", role="compliance")
    assert (whole.exit_code, "the chain is whole" in whole.output) == (0, True)
    connection = apsw.Connection(str(tmp_path / "hub.sqlite3"))
    connection.set_busy_timeout(2000)
    connection.execute("UPDATE audit_entries SET actor = 'eve' WHERE seq = 3")
    connection.close()
    broken = await hub.run("admin", "audit", "verify", person="cora", role="compliance")
    assert (broken.exit_code, "broken at entry 3" in broken.stderr) == (1, True)


async def test_beats_flow_and_pings_are_answered(hub: Hub, nats: Client, tmp_path: Path) -> None:
    await hub.run("apply", "-f", str(write_estate(tmp_path / "estate")))
    jetstream = nats.jetstream()
    for subject, stream in (
        (config_beat("in-south"), config_stream("in-south")),
        (knowledge_beat("in-south"), knowledge_stream("in-south")),
    ):
        subscription = await nats.subscribe(subject)
        await subscription.next_msg(timeout=5)
        await subscription.unsubscribe()
        beat = Beat.FromString((await jetstream.get_last_msg(stream, subject)).data or b"")
        assert abs(beat.sent_at_ms - time.time() * 1000) < 5000
    assert (await nats.request(ping("in-south", "node-1"), b"", timeout=2)).data == b""


async def test_streams_that_vanish_are_made_again_with_the_newest_bundle(
    hub: Hub, nats: Client, tmp_path: Path
) -> None:
    await hub.run("apply", "-f", str(write_estate(tmp_path / "estate")))
    await nats.jetstream().delete_stream(config_stream("in-south"))
    deadline = time.monotonic() + 15
    while True:
        with contextlib.suppress(NotFoundError):
            if await stored_version(nats, "in-south") == 1:
                break
        assert time.monotonic() < deadline, hub.log("hub-1")
        await asyncio.sleep(0.05)


async def test_the_fleet_shows_drift_and_silence(hub: Hub, nats: Client, tmp_path: Path) -> None:
    await hub.run("apply", "-f", str(write_estate(tmp_path / "estate")))
    said = Health(region="in-south", node="node-1", at_ms=round(time.time() * 1000), bundle_version=0)
    await nats.jetstream().publish(health("in-south", "node-1"), said.SerializeToString())
    assert "drifted" in (await hub.run("fleet", "status")).output
    assert (await hub.run("fleet", "status", "--check")).exit_code == 1
    said.bundle_version, said.at_ms = 1, said.at_ms + 1
    await nats.jetstream().publish(health("in-south", "node-1"), said.SerializeToString())
    shown = await hub.run("fleet", "status", "--check", "--region", "in-south")
    assert (shown.exit_code, "ok" in shown.output) == (0, True), shown.output


async def test_a_killed_instance_is_followed_within_the_lease(hub: Hub, tmp_path: Path) -> None:
    await hub.run("apply", "-f", str(write_estate(tmp_path / "estate")))
    await hub.start("hub-2")
    deadline = time.monotonic() + 20
    while "hub.standby" not in (waiting := await hub.run("get", "all", instance="hub-2")).stderr:
        assert time.monotonic() < deadline, waiting.stderr
        await asyncio.sleep(0.05)
    assert "active is hub-1 at 127.0.0.1:" in waiting.stderr
    assert [(await fetch(hub, name, "ready"))[0] for name in ("hub-1", "hub-2")] == [200, 503]
    hub.kill("hub-1")
    took_s = await hub.until_active("hub-2")
    assert took_s <= TTL_S * 1.5, took_s
    assert len(json.loads((await hub.run("get", "all", "--json", instance="hub-2")).output)["documents"]) == 10


async def test_an_instance_that_is_stopped_hands_over_at_once(hub: Hub) -> None:
    await hub.start("hub-2")
    deadline = time.monotonic() + 20
    while "hub.standby" not in (await hub.run("get", "all", instance="hub-2")).stderr:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert await hub.terminate("hub-1") == 0
    assert await hub.until_active("hub-2") < TTL_S
    assert "hub_draining" in hub.events("hub-1")


async def test_without_nats_the_active_one_stops_serving_and_comes_back(hub: Hub, nats_server: NatsServer) -> None:
    await nats_server.stop()
    deadline = time.monotonic() + 3 * TTL_S
    while "hub.standby" not in (await hub.run("get", "all")).stderr:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    await nats_server.start()
    await hub.until_active("hub-1")
    assert "lease_lost" in hub.events("hub-1")
