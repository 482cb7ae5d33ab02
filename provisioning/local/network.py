"""The NATS servers of hub and regions on this machine: ports, certificates, one service each."""

import socket
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from provisioning.identity.names import ServiceRole
from provisioning.identity.store import IdentityStore
from provisioning.local.layout import StateLayout, free_port, secret_file
from provisioning.local.plan import NodeLayout, RegionPlan
from provisioning.local.process import ServiceSpec
from provisioning.nats.deployment import Deployment
from provisioning.nats.topology import Hub, Node, Region, Topology, region_of
from provisioning.node.places import Credential


def deploy(plans: Sequence[RegionPlan], layout: StateLayout) -> Deployment:
    """Choose ports, issue the certificates that are missing and write every server's configuration."""

    def port() -> int:
        return free_port(socket.SOCK_STREAM)

    topology = Topology(
        hub=Hub(client_port=port(), leaf_port=port(), monitor_port=port()),
        regions=tuple(region_of(plan.name, len(plan.nodes), port) for plan in plans),
    )
    deployment = Deployment(topology=topology, identities=IdentityStore(layout.identity), root=layout.nats)
    now = datetime.now(UTC)
    deployment.ensure_identities(now)
    deployment.write(now)
    return deployment


def hub_server(deployment: Deployment, machine: StateLayout) -> ServiceSpec:
    """The hub's NATS server."""
    return _service(deployment, deployment.topology.hub, machine.hub, "nats")


def region_servers(deployment: Deployment, region: Region, machine: StateLayout) -> list[ServiceSpec]:
    """The NATS servers of a region's cluster; the arbiter of a region of two runs on its first node."""
    specs = [_service(deployment, node, machine.node(node.name), "nats") for node in region.nodes]
    if region.arbiter is not None:
        specs.append(_service(deployment, region.arbiter, machine.node(region.nodes[0].name), "nats-arbiter"))
    return specs


def _service(deployment: Deployment, server: Hub | Node, layout: NodeLayout, name: str) -> ServiceSpec:
    instance = deployment.instance(server)
    return ServiceSpec(
        name=name,
        argv=instance.argv,
        log=layout.log / f"{name}.log",
        control=layout.control,
        is_ready=instance.is_ready,
    )


def client_url(server: Hub | Node) -> str:
    return f"tls://{server.address}:{server.client_port}"


def region_urls(deployment: Deployment, server: Node) -> list[str]:
    """How a service of a node reaches the region: its own server first, then its siblings'."""
    siblings = [node for node in deployment.topology.region(server.region).nodes if node is not server]
    return [client_url(node) for node in (server, *siblings)]


def credential_files(deployment: Deployment, server: Hub | Node, machine: StateLayout) -> Credential:
    """Where the certificates, keys and secrets of a node's services lie; its services share them here."""
    identities = deployment.identities
    shared = {
        "authority.pem": identities.authority_file,
        "signing.pub": identities.signing_public_file,
        "signing.key": identities.signing_key_file,
    }

    def file(name: str) -> Path:
        if name in shared:
            return shared[name]
        role, _, kind = name.partition(".")
        if not kind:
            return secret_file(machine, name)
        service = server.service(ServiceRole(role))
        return identities.key_file(service) if kind == "key" else identities.certificate_file(service)

    return file
