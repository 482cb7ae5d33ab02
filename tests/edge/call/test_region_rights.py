"""What a call worker's certificate lets it do in its region, on servers that are set up as a node's are."""

import asyncio
import json
from pathlib import Path

import pytest

from contract.subjects import SESSIONS_BUCKET, key_value_stream
from edge.call.settings import SessionsSection
from edge.sync.connection import NatsLink
from edge.sync.sessions_bucket import SessionsBucket
from edge.sync.settings import HubSection
from provisioning.identity.names import ServiceRole
from tests.edge.call.region_nodes import TENANT, a_call, unhurried, wanted, working
from tests.edge.sync.hub import REGION
from tests.edge.sync.played import settings_of, until
from tests.nats_network import Network, nats_network

__all__ = ["unhurried"]


def access_to(network: Network) -> SessionsSection:
    """As `borough node render` writes it."""
    node, store = network.node(REGION), network.deployment.identities
    service = node.service(ServiceRole.CALLS)
    return SessionsSection(
        node=node.name,
        urls=(f"tls://127.0.0.1:{node.client_port}",),
        authority=store.authority_file,
        certificate=store.certificate_file(service),
        key=store.key_file(service),
    )


@pytest.mark.timeout(60)
async def test_a_worker_tells_and_goes_on_and_can_do_nothing_else(tmp_path: Path) -> None:
    async with nats_network(tmp_path / "nats", {REGION: 1}) as network, asyncio.TaskGroup() as tasks:
        settings = settings_of(network, tmp_path, 1, hub=HubSection(trusted_keys=(tmp_path,)))
        link = NatsLink("agent", settings.nats, settings.nats.agent)
        connecting = tasks.create_task(link.run())
        await until(lambda: link.is_up)
        bucket = SessionsBucket(link, replicas=1)
        await bucket.ensure()
        await bucket.ensure()
        async with working(tmp_path / "b", access_to(network), run="run-b") as other:
            async with working(tmp_path / "a", access_to(network), run="run-a") as worker:
                worker.says(a_call("old"))
                await worker.told()
                assert await other.rung_by(wanted("early")) is None
                assert other.results("still_running") == 1
            assert await other.rung_by(wanted("new")) is not None
            await bucket.forget(TENANT, a_call("old").subject_id)
        complaints: list[str] = []
        calls = await network.connect(network.node(REGION), ServiceRole.CALLS, errors=complaints, prefix="sessions.x")
        name = key_value_stream(SESSIONS_BUCKET)
        for subject in (f"$JS.API.STREAM.{verb}.{name}" for verb in ("CREATE", "UPDATE", "DELETE", "PURGE")):
            await calls.publish(subject, json.dumps({"name": name}).encode())
        await calls.publish("words.said", b"")
        await calls.subscribe("$KV.>")
        await calls.flush()
        await until(lambda: len(complaints) == 6)
        while not connecting.done():
            connecting.cancel()
            await asyncio.wait([connecting], timeout=0.2)
