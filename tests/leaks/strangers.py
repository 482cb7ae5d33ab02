"""Identities where they do not belong, and none at all."""

import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from contract.nats_log import RefusalKind
from contract.subjects import rollup
from provisioning.identity.names import ServiceName, ServiceRole
from provisioning.identity.store import IdentityStore
from tests.forged_leaf import message, say
from tests.leaks.way import ABROAD, FOREIGN_NODE, HOME, NODE, Stage, Try, Way, at_hub, publish_with, refused


def _visit(server: str, site: str, node: str, role: ServiceRole) -> Try:
    """Publish a rollup subject with an identity where it does not belong."""

    async def attempt(stage: Stage, marker: str) -> None:
        port = stage.network.hub.client_port if server == "hub" else stage.network.node(server).client_port
        await stage.visit(port, site, node, role, rollup(HOME, NODE), marker.encode())

    return attempt


async def _plain_client(stage: Stage, marker: str) -> None:
    await publish_with(stage.network.hub.client_port, None, rollup(HOME, NODE), marker.encode())


async def _plain_visitor(stage: Stage, marker: str) -> None:
    await publish_with(stage.network.node(HOME).client_port, None, rollup(HOME, NODE), marker.encode())


async def _plain_leaf(stage: Stage, marker: str) -> None:
    await publish_with(stage.leaf_port, None, rollup(HOME, NODE), marker.encode())


async def _no_certificate(stage: Stage, marker: str) -> None:
    context = ssl.create_default_context(cafile=str(stage.network.deployment.identities.authority_file))
    await say(stage.leaf_port, context, message(rollup(HOME, NODE), marker.encode()))


async def _expired(stage: Stage, marker: str) -> None:
    """The right name and authority, a week too late."""
    name = ServiceName(site=HOME, node=NODE, role=ServiceRole.LEAF)
    store = stage.network.deployment.identities
    late = store.issue(name, datetime.now(UTC) - timedelta(days=10), days=3)
    directory = store.root / name.key / str(late.generation)
    context = ssl.create_default_context(cafile=str(store.authority_file))
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    await say(stage.leaf_port, context, message(rollup(HOME, NODE), marker.encode()))


async def _another_authority(stage: Stage, marker: str) -> None:
    """The right name, signed by somebody else."""
    name = ServiceName(site=HOME, node=NODE, role=ServiceRole.LEAF)
    other = IdentityStore(stage.network.deployment.root / "other-authority")
    other.init(datetime.now(UTC))
    other.issue(name, datetime.now(UTC))
    context = ssl.create_default_context(cafile=str(stage.network.deployment.identities.authority_file))
    context.load_cert_chain(other.certificate_file(name), other.key_file(name))
    await say(stage.leaf_port, context, message(rollup(HOME, NODE), marker.encode()))


STRANGER_WAYS: tuple[Way, ...] = at_hub(
    refused("border certificate at the hub", _visit("hub", HOME, NODE, ServiceRole.BORDER)),
    refused("agent certificate at the hub", _visit("hub", HOME, NODE, ServiceRole.AGENT)),
    refused("calls certificate at the hub", _visit("hub", HOME, NODE, ServiceRole.CALLS)),
    refused("server certificate at the hub", _visit("hub", HOME, NODE, ServiceRole.SERVER)),
    refused("leaf certificate as a client of the hub", _visit("hub", HOME, NODE, ServiceRole.LEAF)),
    refused("an expired certificate", _expired),
    refused("a certificate of another authority", _another_authority),
    replace(refused("no TLS, as a client", _plain_client), kind=RefusalKind.PLAINTEXT),
    replace(refused("no TLS, as a leaf", _plain_leaf), kind=RefusalKind.PLAINTEXT),
    refused("no certificate", _no_certificate),
)


VISITOR_WAYS: tuple[Way, ...] = (
    replace(refused("no TLS, as a client of the region", _plain_visitor), kind=RefusalKind.PLAINTEXT),
    refused("leaf certificate as a client of the region", _visit(HOME, HOME, NODE, ServiceRole.LEAF)),
    refused("another region's border certificate", _visit(HOME, ABROAD, FOREIGN_NODE, ServiceRole.BORDER)),
    refused("the hub's certificate in the region", _visit(HOME, "hub", "hub-1", ServiceRole.CONTROLPLANE)),
)
