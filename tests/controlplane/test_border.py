"""The hub at the residency border as it is in production: its own certificate, its own permissions, a region behind
a leaf link that mirrors what the hub publishes."""

import asyncio
import json
import time
from functools import partial
from pathlib import Path

from nats.aio.client import Client
from nats.js.errors import NotFoundError

from contract.downlink_pb2 import Beat, BundleManifest, BundleMessage
from contract.streams import FROM_THE_BEGINNING, mirrors
from contract.subjects import ack, bundle, config_beat, config_stream, health, knowledge_beat, knowledge_stream, ping
from contract.uplink_pb2 import REFUSAL_SIGNATURE, SUBJECT_BUNDLE, Ack, Health
from provisioning.identity.names import ServiceRole
from tests.controlplane.hub_process import Hub
from tests.controlplane.test_replication import metrics_of
from tests.controlplane.test_service import write_estate
from tests.forged_leaf import message, say
from tests.nats_network import Network, ask, eventually, nats_network

REGION = "in-south"


def hub_of(network: Network, directory: Path) -> Hub:
    directory.mkdir()
    name = network.hub.service(ServiceRole.CONTROLPLANE)
    store = network.deployment.identities
    files = (
        f'authority = "{store.authority_file}"\ncertificate = "{store.certificate_file(name)}"\n'
        f'key = "{store.key_file(name)}"'
    )
    return Hub(directory, f"tls://127.0.0.1:{network.hub.client_port}", files)


async def make_mirrors(border: Client) -> None:
    """What a sync agent does at its first start."""
    for mirror in mirrors(REGION):
        await border.request(mirror.reset_subject, FROM_THE_BEGINNING, timeout=5)
        await ask(border, mirror.create_subject, mirror.request())


async def has_bundle(border: Client, version: int) -> bool:
    try:
        stored = await border.jetstream().get_last_msg(config_stream(REGION), bundle(REGION))
    except NotFoundError:
        return False
    manifest = BundleManifest.FromString(BundleMessage.FromString(stored.data or b"").manifest.body)
    return bool(manifest.version == version)


async def has_beat(border: Client, stream: str, subject: str, after_ms: int) -> bool:
    try:
        stored = await border.jetstream().get_last_msg(stream, subject)
    except NotFoundError:
        return False
    return bool(Beat.FromString(stored.data or b"").sent_at_ms > after_ms)


async def test_bundles_beats_and_states_cross_the_border(tmp_path: Path) -> None:
    async with nats_network(tmp_path / "nats", {REGION: 1}) as network:
        hub = hub_of(network, tmp_path / "hub")
        try:
            await hub.start("hub-1")
            await hub.until_active("hub-1")
            estate = write_estate(tmp_path / "estate")
            assert (await hub.run("apply", "-f", str(estate))).exit_code == 0
            border = await network.connect(network.node(REGION), ServiceRole.BORDER)
            await make_mirrors(border)
            await eventually(partial(has_bundle, border, 1))
            await changes_arrive_at_once(hub, estate, border)
            now_ms = time.time_ns() // 1_000_000
            await eventually(partial(has_beat, border, config_stream(REGION), config_beat(REGION), now_ms))
            await eventually(partial(has_beat, border, knowledge_stream(REGION), knowledge_beat(REGION), now_ms))
            await states_are_seen(hub, network, border)
            await what_no_server_refuses_is_counted(hub, network)
        finally:
            await hub.stop()


async def what_no_server_refuses_is_counted(hub: Hub, network: Network) -> None:
    """By the hub with the permissions that it has; until now there was nothing to count."""
    before = await metrics_of(hub, "hub-1")
    assert before.get('borough_hub_alarm{code="border_refused"}') == 0
    context = network.context(network.node(REGION).service(ServiceRole.LEAF))
    await say(network.hub.leaf_port, context, message("_R_.words", b"words"))

    async def is_counted() -> bool:
        metrics = await metrics_of(hub, "hub-1")
        refused = [metrics[f'borough_hub_border_refusals_total{{kind="{kind}"}}'] for kind in ("internal", "identity")]
        return refused == [1, 1] and metrics['borough_hub_alarm{code="border_refused"}'] == 1

    await eventually(is_counted)


async def changes_arrive_at_once(hub: Hub, estate: Path, border: Client) -> None:
    agent = estate / "bank/agent.yaml"
    agent.write_text(agent.read_text().replace("Hello from bank.", "Welcome."))
    async with asyncio.TaskGroup() as tasks:
        applying = tasks.create_task(hub.run("apply", "-f", str(estate)))
        await eventually(partial(has_bundle, border, 2), within_s=5)
    assert applying.result().exit_code == 0


async def states_are_seen(hub: Hub, network: Network, border: Client) -> None:
    node = network.node(REGION).name
    assert (await border.request(ping(REGION, node), b"", timeout=2)).data == b""
    at_ms = time.time_ns() // 1_000_000
    said = Health(region=REGION, node=node, at_ms=at_ms, bundle_version=1)
    refused = Ack(region=REGION, node=node, subject=SUBJECT_BUNDLE, version=2, refusal=REFUSAL_SIGNATURE, at_ms=at_ms)
    await border.jetstream().publish(health(REGION, node), said.SerializeToString(), timeout=2)
    await border.jetstream().publish(ack(REGION, node), refused.SerializeToString(), timeout=2)

    async def is_shown() -> bool:
        shown = json.loads((await hub.run("fleet", "status", "--region", REGION, "--json")).output)
        nodes = shown["regions"][0]["nodes"]
        return bool(nodes) and nodes[0].get("refused", {}).get("refusal") == "REFUSAL_SIGNATURE"

    await eventually(is_shown)
    assert "refused bundle 2: signature" in (await hub.run("fleet", "status")).output
