"""The rendered topology with real servers: links, mirrors, clusters, rotation, revocation."""

import asyncio
import contextlib
import os
import signal
import ssl
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client

from contract.streams import FROM_THE_BEGINNING, mirrors
from contract.subjects import config_beat, object_stream, replica_bucket, rollup
from provisioning.identity.names import ServiceRole
from provisioning.identity.store import IdentityStore
from provisioning.nats.deployment import Deployment
from provisioning.nats.errors import NatsConfigError
from provisioning.nats.topology import Node
from tests.nats_network import Network, ask, eventually, nats_network, topology

MIRROR = mirrors("in-south")[0]


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_region_of_any_size_publishes_up_and_mirrors_down(tmp_path: Path, count: int) -> None:
    """With one, two and three nodes; from the last node, which has no JetStream of its own where there are two."""
    async with nats_network(tmp_path, {"in-south": count}) as network:
        await network.make_streams()
        central = await network.connect(network.hub, ServiceRole.CONTROLPLANE)
        last = network.node("in-south", count)
        border = await network.connect(last, ServiceRole.BORDER)
        ack = await border.jetstream().publish(rollup("in-south", last.name), b"counts", timeout=5)
        assert (ack.stream, ack.domain, ack.seq) == ("ROLLUPS", "hub", 1)
        await central.jetstream().publish(config_beat("in-south"), b"beat")
        await eventually(partial(_holds, border, 1))


async def test_a_configuration_that_nats_server_does_not_read_is_an_error_of_ours(tmp_path: Path) -> None:
    """And every rendered one is read."""
    deployment = Deployment(
        topology=topology({"in-south": 3, "eu-central": 2}),
        identities=IdentityStore(tmp_path / "identity"),
        root=tmp_path,
    )
    deployment.ensure_identities(datetime.now(UTC))
    deployment.write(datetime.now(UTC))
    instances = [deployment.instance(server) for server in deployment.servers()]
    assert len(instances) == 1 + 3 + 2 + 1
    for instance in instances:
        await instance.check()
        assert stat.S_IMODE(instance.config.stat().st_mode) == 0o600
    instances[0].write("listen: {")
    with pytest.raises(NatsConfigError, match="Unexpected"):
        await instances[0].check()
    with pytest.raises(NatsConfigError):
        instances[0].reload()


async def test_a_hub_that_restarts_is_followed_again(tmp_path: Path) -> None:
    """Killed and started anew: rollups are stored and the mirror goes on by itself."""
    async with nats_network(tmp_path, {"in-south": 1}) as network:
        await network.make_streams()
        border = await network.connect(network.node("in-south"), ServiceRole.BORDER)
        central = await network.connect(network.hub, ServiceRole.CONTROLPLANE)
        await central.jetstream().publish(config_beat("in-south"), b"before")
        await eventually(partial(_holds, border, 1))
        os.kill(network.services["hub-1"].pid, signal.SIGKILL)
        await eventually(partial(_publishes, central), within_s=20)
        await eventually(partial(_holds, border, 2), within_s=20)
        await eventually(partial(_reports, border), within_s=20)


async def test_a_mirror_that_is_made_anew_gets_its_past(tmp_path: Path) -> None:
    """If it asks for the beginning; without that it stays empty."""
    async with nats_network(tmp_path, {"in-south": 1}) as network:
        await network.make_streams()
        border = await network.connect(network.node("in-south"), ServiceRole.BORDER)
        central = await network.connect(network.hub, ServiceRole.CONTROLPLANE)
        for number in range(50):
            await central.jetstream().publish(f"down.in-south.config.x{number}", b"content")
        await eventually(partial(_holds, border, 50))
        await ask(border, MIRROR.delete_subject, {})
        await border.request(MIRROR.reset_subject, FROM_THE_BEGINNING, 5)
        await ask(border, MIRROR.create_subject, MIRROR.request())
        await eventually(partial(_holds, border, 50))


async def test_a_silent_link_is_given_up_and_made_again(tmp_path: Path) -> None:
    """Bytes vanish on the way, sockets stay open: noticed by pings within six seconds, followed again after."""
    async with nats_network(tmp_path, {"in-south": 1}, hole=True) as network:
        await network.make_streams()
        border = await network.connect(network.node("in-south"), ServiceRole.BORDER)
        central = await network.connect(network.hub, ServiceRole.CONTROLPLANE)
        network.holes["in-south-1"].is_open = True
        await central.jetstream().publish(config_beat("in-south"), b"in the dark")
        await eventually(partial(_has_no_leaf, network.node("in-south").monitor_port), within_s=9)
        network.holes["in-south-1"].is_open = False
        await eventually(partial(_holds, border, 1), within_s=9)


async def test_a_revoked_node_is_cut_off(tmp_path: Path) -> None:
    """Its link and its clients; the other region comes back by itself."""
    async with nats_network(tmp_path, {"in-south": 1, "eu-central": 1}) as network:
        deployment = network.deployment
        errors: list[str] = []
        node = network.node("in-south")
        await network.connect(node, ServiceRole.BORDER, errors=errors)
        assert await _is_let_in(node.client_port, network.context(node.service(ServiceRole.BORDER)))
        deployment.identities.revoke("in-south")
        await deployment.apply(datetime.now(UTC))
        await eventually(partial(_has_no_leaf, node.monitor_port))
        await eventually(partial(_is_true, lambda: bool(errors)))
        await network.linked(network.node("eu-central"))
        assert await _has_no_leaf(node.monitor_port)
        assert not await _is_let_in(node.client_port, network.context(node.service(ServiceRole.BORDER)))


async def test_a_rotated_certificate_works_beside_the_old_one(tmp_path: Path) -> None:
    """Staged and rendered: both come in; switched and rendered: the old one is out."""
    async with nats_network(tmp_path, {"in-south": 1}) as network:
        node, store = network.node("in-south"), network.deployment.identities
        name = node.service(ServiceRole.BORDER)
        old = network.context(name)
        store.issue(name, datetime.now(UTC))
        await _reload(network, node)
        assert await _is_let_in(node.client_port, old)
        store.switch(name)
        assert await _is_let_in(node.client_port, network.context(name))
        await _reload(network, node)
        assert await _is_let_in(node.client_port, network.context(name))
        assert not await _is_let_in(node.client_port, old)


async def test_only_servers_of_the_region_may_join_its_cluster(tmp_path: Path) -> None:
    """A route sees every account, so that a worker's certificate, good as it is, must not open one."""
    async with nats_network(tmp_path, {"in-south": 2}) as network:
        node = network.node("in-south")
        assert not await _is_routed(node.cluster_port, network.context(node.service(ServiceRole.CALLS)))
        assert not await _is_routed(node.cluster_port, network.context(network.hub.service(ServiceRole.SERVER)))
        assert await _is_routed(node.cluster_port, network.context(node.service(ServiceRole.SERVER)))


async def test_a_worker_cannot_destroy_the_replicas(tmp_path: Path) -> None:
    """The agent makes a bucket, litestream fills it, a call worker can neither write to it nor delete it."""
    async with nats_network(tmp_path, {"in-south": 1}) as network:
        node = network.node("in-south")
        errors: list[str] = []
        agent = await network.connect(node, ServiceRole.AGENT)
        litestream = await network.connect(node, ServiceRole.LITESTREAM, errors=errors)
        bucket = replica_bucket(node.name)
        await agent.jetstream().create_object_store(bucket)
        store = await litestream.jetstream().object_store(bucket)
        await store.put("db", b"content")
        assert errors == []
        calls = await network.connect(node, ServiceRole.CALLS, errors=errors)
        with pytest.raises(nats.errors.TimeoutError):
            await calls.request(f"$JS.API.STREAM.DELETE.{object_stream(bucket)}", b"", 0.5)
        assert "permissions violation" in errors[0]
        assert (await store.get("db")).data == b"content"


async def _holds(border: Client, messages: int) -> bool:
    state = (await ask(border, MIRROR.info_subject, {}))["state"]
    assert isinstance(state, dict)
    return bool(state["messages"] >= messages)


async def _publishes(central: Client) -> bool:
    with contextlib.suppress(nats.errors.Error, nats.js.errors.Error):
        await central.jetstream().publish(config_beat("in-south"), b"after", timeout=0.5)
        return True
    return False


async def _reports(border: Client) -> bool:
    with contextlib.suppress(nats.errors.Error, nats.js.errors.Error):
        return (await border.jetstream().publish(rollup("in-south", "in-south-1"), b"", timeout=0.5)).domain == "hub"
    return False


async def _has_no_leaf(port: int) -> bool:
    return not await Network.has_leaf(port)


async def _is_true(fact: Callable[[], bool]) -> bool:
    return fact()


async def _reload(network: Network, node: Node) -> None:
    network.deployment.write(datetime.now(UTC))
    instance = network.deployment.instance(node)
    reloaded = instance.files.log.read_text().count("Reloaded server configuration")
    instance.reload()
    await eventually(
        partial(_is_true, lambda: instance.files.log.read_text().count("Reloaded server configuration") > reloaded)
    )


async def _is_let_in(port: int, context: ssl.SSLContext) -> bool:
    return "PONG" in await _answer(port, context, b'CONNECT {"verbose":false}\r\nPING\r\n', speaks_first=True)


async def _is_routed(port: int, context: ssl.SSLContext) -> bool:
    """A cluster port starts TLS at once and then tells what it is."""
    return "INFO" in await _answer(port, context, b"", speaks_first=False)


async def _answer(port: int, context: ssl.SSLContext, lines: bytes, *, speaks_first: bool) -> str:
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        heard = b""
        try:
            with contextlib.suppress(OSError):
                if speaks_first:
                    await reader.readline()
                await writer.start_tls(context, server_hostname="127.0.0.1")
                writer.write(lines)
                heard = await reader.readline()
        finally:
            writer.close()
    return heard.decode()
