"""The hub on this machine: NATS, the embedding model, the control plane, and how an admin reaches it."""

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from provisioning.identity.names import PersonName, PersonRole, ServiceRole
from provisioning.local.layout import StateLayout, TomlSections, TomlValue, free_port, write_toml
from provisioning.local.network import client_url, credentials, hub_server
from provisioning.local.node import inference_service, inference_socket
from provisioning.local.process import ServiceSpec, running
from provisioning.local.readiness import answers_http
from provisioning.nats.deployment import Deployment

# Who `borough up` acts as towards its own hub.
OPERATOR = PersonName(name="local-admin", role=PersonRole.ADMIN)
INFERENCE_SETTINGS = """\
socket = "{socket}"
store = "{store}"

[embedding]
model = "minilm-l6-v2"
# Nobody waits on the telephone for it: a first catalogue has hundreds of thousands of texts.
threads = 2
"""


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
            inference_service(layout, machine, INFERENCE_SETTINGS),
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


def _controlplane(deployment: Deployment, machine: StateLayout, hub: RunningHub) -> ServiceSpec:
    layout, server, identities = machine.hub, deployment.topology.hub, deployment.identities
    own = credentials(deployment, server, ServiceRole.CONTROLPLANE)
    authority = identities.authority_file
    sections: TomlSections = {
        "hub": {"name": server.node},
        "database": {"path": layout.records / "hub.db"},
        "nats": {
            "url": client_url(server),
            "authority": authority,
            "server_log": deployment.instance(server).files.log,
            "monitor": f"http://127.0.0.1:{server.monitor_port}",
            **own,
        },
        "admin": {"port": hub.admin_port, "authority": authority, "revoked_file": identities.revoked_file, **own},
        "signing": {"key_file": identities.signing_key_file},
        "inference": {"socket": inference_socket(layout)},
        "metrics": {"port": hub.metrics_port},
        "replication": {
            "directory": layout.run / "litestream",
            **credentials(deployment, server, ServiceRole.LITESTREAM),
        },
    }
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
