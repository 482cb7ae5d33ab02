"""The hub on this machine: NATS, the embedding model, the control plane, and how an admin reaches it."""

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from provisioning.identity.names import PersonName, PersonRole
from provisioning.local.layout import StateLayout, free_port, write_toml
from provisioning.local.network import client_url, credential_files, hub_server
from provisioning.local.node import inference_service, inference_socket
from provisioning.local.process import ServiceSpec, running
from provisioning.local.readiness import answers_http
from provisioning.nats.deployment import Deployment
from provisioning.node.places import HubPlaces, ModelChoice
from provisioning.node.settings import hub_sections
from provisioning.toml_text import TomlValue

# Who `borough up` acts as towards its own hub.
OPERATOR = PersonName(name="local-admin", role=PersonRole.ADMIN)
MODELS = ModelChoice(embedding="minilm-l6-v2", embedding_threads=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningHub:
    """The hub as region.json describes it."""

    admin_port: int
    metrics_port: int
    nats_monitor_port: int

    def describe(self) -> dict[str, object]:
        """The hub's part of region.json."""
        return {
            "admin": f"127.0.0.1:{self.admin_port}",
            "nats_monitor": f"http://127.0.0.1:{self.nats_monitor_port}",
            "metrics": f"http://127.0.0.1:{self.metrics_port}/metrics",
        }


@asynccontextmanager
async def local_hub(deployment: Deployment, machine: StateLayout) -> AsyncIterator[RunningHub]:
    """Run the hub inside the block. Raises ServiceStartError."""
    layout = machine.hub
    hub = RunningHub(
        admin_port=free_port(socket.SOCK_STREAM),
        metrics_port=free_port(socket.SOCK_STREAM),
        nats_monitor_port=deployment.topology.hub.monitor_port,
    )
    _write_admin_context(deployment, machine, hub)
    async with AsyncExitStack() as stack:
        for spec in (
            hub_server(deployment, machine),
            inference_service(layout, machine, MODELS),
            _controlplane(deployment, machine, hub),
        ):
            await stack.enter_async_context(running(spec))
        yield hub


def _write_admin_context(deployment: Deployment, machine: StateLayout, hub: RunningHub) -> None:
    identities = deployment.identities
    identities.ensure(OPERATOR, datetime.now(UTC))
    values: dict[str, TomlValue] = {
        "address": f"127.0.0.1:{hub.admin_port}",
        "authority": identities.authority_file,
        "certificate": identities.certificate_file(OPERATOR),
        "key": identities.key_file(OPERATOR),
    }
    write_toml(machine.admin_context, {"": values}).chmod(0o600)


def _places(deployment: Deployment, machine: StateLayout, hub: RunningHub) -> HubPlaces:
    layout, server = machine.hub, deployment.topology.hub
    return HubPlaces(
        name=server.node,
        nats_url=client_url(server),
        nats_monitor=f"http://127.0.0.1:{server.monitor_port}",
        server_log=deployment.instance(server).files.log,
        credential=lambda _: credential_files(deployment, server, machine),
        database=layout.records / "hub.db",
        revoked_file=deployment.identities.revoked_file,
        litestream=layout.run / "litestream",
        inference_socket=inference_socket(layout),
        admin_host="127.0.0.1",
        admin_port=hub.admin_port,
        metrics_port=hub.metrics_port,
    )


def _controlplane(deployment: Deployment, machine: StateLayout, hub: RunningHub) -> ServiceSpec:
    layout = machine.hub
    sections = hub_sections(_places(deployment, machine, hub))
    config = write_toml(layout.run / "hub.toml", sections)

    async def is_ready() -> bool:
        return await answers_http(f"http://127.0.0.1:{hub.metrics_port}/ready")

    return ServiceSpec(
        name="controlplane",
        argv=[sys.executable, "-m", "controlplane", "--config", str(config)],
        log=layout.log / "controlplane.log",
        control=layout.control,
        is_ready=is_ready,
    )
