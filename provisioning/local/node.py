"""Nodes on this machine, each of them: Asterisk, inference, call workers, and what ties it to region and hub.

Renders every process's settings into the node's folder and starts them in order. The processes share no code with this
package: settings files are the border (edge/call/settings.py, edge/inference/settings.py, edge/sync/settings.py).
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from provisioning.asterisk.image import ensure_image, missing_requirement
from provisioning.asterisk.instance import AsteriskInstance
from provisioning.asterisk.settings import AriAccess, AsteriskSettings, NodeDialplan, PortRange, TrunkPeer
from provisioning.identity.names import ServiceRole
from provisioning.local.layout import StateLayout, TomlSections, free_port, secret_file, write_toml
from provisioning.local.network import credentials, region_access
from provisioning.local.plan import NodeLayout, NodePlan
from provisioning.local.process import ServiceSpec, running_together
from provisioning.local.readiness import accepts_connection, answers_http
from provisioning.nats.deployment import Deployment
from provisioning.nats.topology import Node as NatsNode

# Two cores serve this many calls within the latency promise (`borough bench capacity`).
DEFAULT_CAPACITY = 28
DEFAULT_WORKERS = 2
# Even ports only; every call needs two legs of two ports, and a drained port rests before it is used again.
RTP_PORTS = 2_000
RTP_FIRST = 20_000
VAD_MODEL = "silero-vad"
# The first start synthesises all that the example agents often say: 430 clips.
FIRST_START_S = 600.0
INFERENCE_SETTINGS = """\
socket = "{socket}"
store = "{store}"

[[asr]]
model = "whisper-tiny.en"

[[tts]]
model = "en_US-joe-medium"

[llm]
model = "smollm2-135m-instruct"

[embedding]
model = "minilm-l6-v2"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """What a node runs. `sip` is False where Asterisk cannot be installed: calls then come over WebRTC only.

    `deployment`: the network that ties it to its siblings and the hub; None: the node serves `tenants` from disk.
    """

    plan: NodePlan
    machine: StateLayout
    carrier_sip_port: int
    tenants: Path
    deployment: Deployment | None = None
    workers: int = DEFAULT_WORKERS
    capacity: int = DEFAULT_CAPACITY
    sip: bool = True

    @property
    def layout(self) -> NodeLayout:
        return self.machine.node(self.plan.name)

    @property
    def sections_of_documents(self) -> TomlSections:
        """Where the call workers find their agents."""
        if self.deployment is None:
            return {"tenants": {"directory": self.tenants}}
        return {"sync": {"directory": self.layout.sync}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A running node, as region.json describes it to the bench."""

    options: NodeOptions
    asterisk: AsteriskSettings | None
    asterisk_pid: int | None
    web_ports: tuple[int, ...]

    def describe(self) -> dict[str, object]:
        """The node's part of region.json."""
        layout = self.options.layout
        return {
            "name": self.options.plan.name,
            "region": self.options.plan.region,
            "sip": f"127.0.0.1:{self.asterisk.sip_port}" if self.asterisk else None,
            "web": f"http://127.0.0.1:{self.web_ports[0]}",
            "metrics": [f"http://127.0.0.1:{port}/metrics" for port in self.web_ports],
            "asterisk_pid": self.asterisk_pid,
            "ari": _ari_description(self.asterisk),
            "records": str(layout.records),
            "sync": str(layout.sync),
            "slots": str(layout.run / "slots"),
            "control": str(layout.control),
            "log": str(layout.log),
            "capacity": self.options.capacity,
            "inference_socket": str(inference_socket(layout)),
        }


def _ari_description(asterisk: AsteriskSettings | None) -> dict[str, str] | None:
    if asterisk is None:
        return None
    return {"url": asterisk.ari_url, "user": asterisk.ari.user, "password": asterisk.ari.password}


def sip_is_possible() -> bool:
    """Whether this machine can build and run the Asterisk image."""
    return missing_requirement() is None


@asynccontextmanager
async def local_nodes(all_options: Sequence[NodeOptions]) -> AsyncIterator[tuple[Node, ...]]:
    """Run nodes inside the block; like services of all of them start at once.

    Raises ServiceStartError or AsteriskImageError.
    """
    async with AsyncExitStack() as stack:
        first = [spec for options in all_options for spec in (*_network_services(options), _inference(options))]
        await stack.enter_async_context(running_together(first))
        nodes = [await _with_asterisk(options, stack) for options in all_options]
        await stack.enter_async_context(running_together([spec for node in nodes for spec in _workers(node)]))
        yield tuple(nodes)


async def _with_asterisk(options: NodeOptions, stack: AsyncExitStack) -> Node:
    asterisk = None
    if options.sip:
        root = await asyncio.to_thread(ensure_image, state_directory=options.machine.images)
        asterisk = await stack.enter_async_context(AsteriskInstance(root, _asterisk_settings(options)))
    return Node(
        options=options,
        asterisk=asterisk.settings if asterisk else None,
        asterisk_pid=asterisk.pid if asterisk else None,
        web_ports=tuple(free_port(socket.SOCK_STREAM) for _ in range(options.workers)),
    )


def _network_services(options: NodeOptions) -> list[ServiceSpec]:
    """The node's agent and the replication of its records."""
    deployment = options.deployment
    if deployment is None:
        return []
    server = deployment.topology.region(options.plan.region).node(options.plan.name)
    return [_sync(options, deployment, server), _replication(options, deployment, server)]


def _inference(options: NodeOptions) -> ServiceSpec:
    return inference_service(options.layout, options.machine, INFERENCE_SETTINGS)


def _workers(node: Node) -> list[ServiceSpec]:
    return [_worker(node.options, index, port, node.asterisk) for index, port in enumerate(node.web_ports, start=1)]


def _sync(options: NodeOptions, deployment: Deployment, server: NatsNode) -> ServiceSpec:
    layout, region, port = options.layout, deployment.topology.region(server.region), free_port(socket.SOCK_STREAM)
    sections: TomlSections = {
        "node": {"region": server.region, "name": server.name},
        "nats": {
            **region_access(deployment, server),
            "mirror_replicas": region.replicas,
            "server_log": deployment.instance(server).files.log,
        },
        "nats.agent": credentials(deployment, server, ServiceRole.AGENT),
        "nats.border": credentials(deployment, server, ServiceRole.BORDER),
        "nats.system": credentials(deployment, server, ServiceRole.SYSTEM),
        "hub": {"trusted_keys": [str(deployment.identities.signing_public_file)]},
        "sync": {"directory": layout.sync, "workers_expected": options.workers},
        "records": {"directory": layout.records},
        "slots": {"directory": layout.run / "slots", "capacity": options.capacity},
        "replication": {},
        "metrics": {"port": port},
    }
    config = write_toml(layout.run / "sync.toml", sections)

    async def is_ready() -> bool:
        return await answers_http(f"http://127.0.0.1:{port}/ready")

    return ServiceSpec(
        name="sync",
        argv=[sys.executable, "-m", "edge.sync", "--config", str(config)],
        log=layout.log / "sync.log",
        control=layout.control,
        is_ready=is_ready,
    )


def _replication(options: NodeOptions, deployment: Deployment, server: NatsNode) -> ServiceSpec:
    layout, region, port = options.layout, deployment.topology.region(server.region), free_port(socket.SOCK_STREAM)
    sections: TomlSections = {
        "node": {"name": server.name},
        "nats": {
            **region_access(deployment, server),
            "replicas": region.replicas,
        },
        "nats.agent": credentials(deployment, server, ServiceRole.AGENT),
        "nats.litestream": credentials(deployment, server, ServiceRole.LITESTREAM),
        "records": {"directory": layout.records, "ledger": layout.sync / "rollups.db"},
        "litestream": {"directory": layout.run / "litestream"},
        "watch": {"port": port},
    }
    config = write_toml(layout.run / "replication.toml", sections)

    async def is_ready() -> bool:
        return await answers_http(f"http://127.0.0.1:{port}/metrics")

    return ServiceSpec(
        name="replication",
        argv=[sys.executable, "-m", "edge.replication", "--config", str(config)],
        log=layout.log / "replication.log",
        control=layout.control,
        is_ready=is_ready,
    )


def _worker_name(index: int) -> str:
    return f"calls-{index}"


def _asterisk_settings(options: NodeOptions) -> AsteriskSettings:
    first = RTP_FIRST + options.plan.index * RTP_PORTS
    return AsteriskSettings(
        name="node",
        directory=options.layout.run / "asterisk",
        dialplan=NodeDialplan(stasis_apps=tuple(_worker_name(index) for index in range(1, options.workers + 1))),
        sip_port=free_port(socket.SOCK_DGRAM),
        http_port=free_port(socket.SOCK_STREAM),
        rtp_ports=PortRange(first=first, last=first + RTP_PORTS - 1),
        peers=(TrunkPeer(name="trunk", host="127.0.0.1", port=options.carrier_sip_port, qualify_interval_s=0),),
        ari=AriAccess(password=secret_file(options.machine, "ari").read_text(encoding="utf-8")),
    )


def inference_socket(layout: NodeLayout) -> Path:
    return layout.run / "inference.sock"


def inference_service(layout: NodeLayout, machine: StateLayout, settings: str) -> ServiceSpec:
    """The inference service of a node, or of the hub with other models."""
    listen, config = inference_socket(layout), layout.run / "inference.toml"
    layout.run.mkdir(parents=True, exist_ok=True)
    config.write_text(settings.format(socket=listen, store=machine.models), encoding="utf-8")

    async def is_ready() -> bool:
        return await accepts_connection(listen)

    return ServiceSpec(
        name="inference",
        argv=[sys.executable, "-m", "edge.inference", "--config", str(config)],
        log=layout.log / "inference.log",
        control=layout.control,
        is_ready=is_ready,
    )


def _worker(options: NodeOptions, index: int, web_port: int, asterisk: AsteriskSettings | None) -> ServiceSpec:
    layout, machine, name = options.layout, options.machine, _worker_name(index)
    sections: TomlSections = {
        "worker": {"name": name},
        "inference": {"socket": inference_socket(layout)},
        "slots": {"directory": layout.run / "slots", "capacity": options.capacity},
        "records": {
            "directory": layout.records,
            "subject_key_file": secret_file(machine, "subjects"),
            "is_replicated": options.deployment is not None,
        },
        "speech": {"prepared": machine.prepared_audio, "vectors": machine.vectors},
        "models": {"vad": machine.models / VAD_MODEL},
        "web": {"host": "127.0.0.1", "port": web_port},
        **options.sections_of_documents,
    }
    if asterisk is not None:
        password = secret_file(machine, "ari")
        base = asterisk.ari_url.removesuffix("/ari")
        sections["asterisk"] = {"url": base, "user": asterisk.ari.user, "password_file": password}
    config = write_toml(layout.run / f"{name}.toml", sections)

    async def is_ready() -> bool:
        return await answers_http(f"http://127.0.0.1:{web_port}/ready")

    return ServiceSpec(
        name=name,
        argv=[sys.executable, "-m", "edge.call.worker", "--config", str(config)],
        log=layout.log / f"{name}.log",
        control=layout.control,
        is_ready=is_ready,
        ready_within_s=FIRST_START_S,
        stop_within_s=45.0,
    )
