"""The checks of the network against real nats-servers."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from contract.subjects import ping
from provisioning.identity.names import NODE_ROLES, ServiceRole
from provisioning.identity.store import IdentityStore
from provisioning.nats.topology import Node
from provisioning.node.description import NodeDescription, parse_description
from provisioning.node.identity_folder import IdentityFolder, Pair, Trust
from provisioning.node.self_test.checks import CheckFailedError, CheckSkippedError
from provisioning.node.self_test.network_checks import NetworkChecks
from tests.nats_network import Network, nats_network


def _described(network: Network, server: Node) -> NodeDescription:
    region, hub = network.deployment.topology.region(server.region), network.hub
    # Here all servers share an address, which a description refuses: only the own one is true.
    others = [f'{{name = "{node.name}", address = "127.0.1.{i}"}}' for i, node in enumerate(region.nodes[1:], 1)]
    own = "127.0.0.1"
    nodes = ", ".join([f'{{name = "{server.name}", address = "{own}"}}', *others])
    text = (
        f'kind = "node"\n[machine]\nname = "{server.name}"\naddress = "{own}"\n[region]\nname = "{server.region}"\n'
        f'nodes = [{nodes}]\n[hub]\naddress = "{hub.address}"\n[calls]\ncapacity = 28\n'
        f"[nats]\nclient_port = {server.client_port}\nmonitor_port = {server.monitor_port}\n"
    )
    node = parse_description(Path("node.toml"), text)
    assert isinstance(node, NodeDescription)
    return node


def _identity(store: IdentityStore, server: Node, root: Path) -> IdentityFolder:
    pairs = [
        Pair(
            role=role,
            generation=1,
            certificate=store.certificate_file(server.service(role)).read_bytes(),
            key=store.key_file(server.service(role)).read_bytes(),
        )
        for role in NODE_ROLES
    ]
    folder = IdentityFolder(root)
    folder.install(pairs, Trust(authority=store.authority_file.read_bytes(), signing_public=b""))
    return folder


async def test_a_region_with_its_hub_passes(tmp_path: Path) -> None:
    """JetStream answers, the hub's services hear the node; one node has no sibling to compare its clock with."""
    async with nats_network(tmp_path, {"in-south": 1}) as network:
        server = network.node("in-south")
        checks = NetworkChecks(
            _described(network, server), _identity(network.deployment.identities, server, tmp_path / "own")
        )
        assert "answered in" in await checks.region()
        with pytest.raises(CheckFailedError, match="the link is up, the hub's services do not answer"):
            await checks.hub()
        central = await network.connect(network.hub, ServiceRole.CONTROLPLANE)

        async def answer(message: Msg) -> None:
            await message.respond(b"")

        await central.subscribe(ping("in-south", server.name), cb=answer)
        await central.flush()
        assert "answered in" in await checks.hub()
        with pytest.raises(CheckSkippedError):
            await checks.clock()
        await network.services[network.hub.node].stop()
        with pytest.raises(CheckFailedError, match="the link to the hub is down"):
            await checks.hub()


async def test_clocks_of_siblings_are_compared(tmp_path: Path) -> None:
    """All servers of a cluster answer; on one machine they have one clock."""
    async with nats_network(tmp_path, {"in-south": 3}) as network:
        server = network.node("in-south")
        checks = NetworkChecks(
            _described(network, server), _identity(network.deployment.identities, server, tmp_path / "own")
        )
        assert (await checks.clock()).startswith("2 siblings within")


async def test_a_node_that_was_shut_out_is_told(tmp_path: Path) -> None:
    """Its server knows it no more."""
    async with nats_network(tmp_path, {"in-south": 1}) as network:
        server = network.node("in-south")
        identity = _identity(network.deployment.identities, server, tmp_path / "own")
        network.deployment.identities.revoke(f"in-south/{server.name}/agent")
        await network.deployment.apply(datetime.now(UTC))
        with pytest.raises(CheckFailedError, match="does not let agent in"):
            await NetworkChecks(_described(network, server), identity).region()
