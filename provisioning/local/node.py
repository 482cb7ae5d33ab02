"""Nodes on this machine, each of them: Asterisk, inference, call workers, and what ties it to region and hub.

Renders every process's settings into the node's folder and starts them in order. The processes share no code with this
package: settings files are the border (edge/call/settings.py, edge/inference/settings.py, edge/sync/settings.py).
"""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from provisioning.asterisk.image import ensure_image, missing_requirement
from provisioning.asterisk.instance import AsteriskInstance
from provisioning.asterisk.settings import AriAccess, AsteriskSettings, NodeDialplan, PortRange, TrunkPeer
from provisioning.local.layout import StateLayout, free_port, secret_file, write_toml
from provisioning.local.network import credential_files, region_urls
from provisioning.local.plan import NodeLayout, NodePlan
from provisioning.local.process import ServiceSpec, running_together
from provisioning.local.readiness import accepts_connection, answers_http
from provisioning.nats.deployment import Deployment
from provisioning.node.places import AsteriskPlace, ModelChoice, NodePlaces, Service
from provisioning.node.settings import (
    inference_sections,
    replication_sections,
    sync_sections,
    worker_name,
    worker_sections,
)

# Two cores serve this many calls within the latency promise (`borough bench capacity`).
DEFAULT_CAPACITY = 28
DEFAULT_WORKERS = 2
# Even ports only; every call needs two legs of two ports, and a drained port rests before it is used again.
RTP_PORTS = 2_000
RTP_FIRST = 20_000
VAD_MODEL = "silero-vad"
MODELS = ModelChoice(
    asr="whisper-tiny.en", tts="en_US-joe-medium", llm="smollm2-135m-instruct", embedding="minilm-l6-v2"
)
# The first start synthesises all that the example agents often say: 430 clips.
FIRST_START_S = 600.0


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
    if options.deployment is None:
        return []
    places = _places(options)
    return [_sync(options, places), _replication(options, places)]


def _inference(options: NodeOptions) -> ServiceSpec:
    return inference_service(options.layout, options.machine, MODELS)


def _workers(node: Node) -> list[ServiceSpec]:
    return [_worker(node.options, index, port, node.asterisk) for index, port in enumerate(node.web_ports, start=1)]


def _places(options: NodeOptions, asterisk: AsteriskSettings | None = None) -> NodePlaces:
    layout, machine, deployment = options.layout, options.machine, options.deployment
    places = NodePlaces(
        region=options.plan.region,
        name=options.plan.name,
        capacity=options.capacity,
        workers=options.workers,
        urls=(),
        replicas=1,
        server_log=None,
        credential=lambda _: lambda name: secret_file(machine, name),
        records=layout.records,
        keys=None,
        sync=layout.sync,
        tenants=options.tenants if deployment is None else None,
        slots=layout.run / "slots",
        litestream=layout.run / "litestream",
        prepared=machine.prepared_audio,
        vectors=machine.vectors,
        models=machine.models,
        vad=VAD_MODEL,
        inference_socket=inference_socket(layout),
        asterisk=AsteriskPlace(url=asterisk.ari_url.removesuffix("/ari"), user=asterisk.ari.user) if asterisk else None,
    )
    if deployment is None:
        return places
    region = deployment.topology.region(options.plan.region)
    server = region.node(options.plan.name)
    return replace(
        places,
        urls=region_urls(deployment, server),
        replicas=region.replicas,
        server_log=deployment.instance(server).files.log,
        credential=lambda _: credential_files(deployment, server, machine),
    )


def _sync(options: NodeOptions, places: NodePlaces) -> ServiceSpec:
    layout, port = options.layout, free_port(socket.SOCK_STREAM)
    config = write_toml(layout.run / "sync.toml", sync_sections(places, port))

    async def is_ready() -> bool:
        return await answers_http(f"http://127.0.0.1:{port}/ready")

    return ServiceSpec(
        name="sync",
        argv=[sys.executable, "-m", "edge.sync", "--config", str(config)],
        log=layout.log / "sync.log",
        control=layout.control,
        is_ready=is_ready,
    )


def _replication(options: NodeOptions, places: NodePlaces) -> ServiceSpec:
    layout, port = options.layout, free_port(socket.SOCK_STREAM)
    config = write_toml(layout.run / "replication.toml", replication_sections(places, port))

    async def is_ready() -> bool:
        return await answers_http(f"http://127.0.0.1:{port}/metrics")

    return ServiceSpec(
        name="replication",
        argv=[sys.executable, "-m", "edge.replication", "--config", str(config)],
        log=layout.log / "replication.log",
        control=layout.control,
        is_ready=is_ready,
    )


def _asterisk_settings(options: NodeOptions) -> AsteriskSettings:
    first = RTP_FIRST + options.plan.index * RTP_PORTS
    return AsteriskSettings(
        name="node",
        directory=options.layout.run / "asterisk",
        dialplan=NodeDialplan(stasis_apps=tuple(worker_name(index) for index in range(1, options.workers + 1))),
        sip_port=free_port(socket.SOCK_DGRAM),
        http_port=free_port(socket.SOCK_STREAM),
        rtp_ports=PortRange(first=first, last=first + RTP_PORTS - 1),
        peers=(TrunkPeer(name="trunk", host="127.0.0.1", port=options.carrier_sip_port, qualify_interval_s=0),),
        ari=AriAccess(password=secret_file(options.machine, "ari").read_text(encoding="utf-8")),
    )


def inference_socket(layout: NodeLayout) -> Path:
    return layout.run / "inference.sock"


def inference_service(layout: NodeLayout, machine: StateLayout, models: ModelChoice) -> ServiceSpec:
    """The inference service of a node, or of the hub with other models."""
    listen = inference_socket(layout)
    config = write_toml(layout.run / "inference.toml", inference_sections(listen, machine.models, models))

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
    layout, name, places = options.layout, worker_name(index), _places(options, asterisk)
    sections = worker_sections(places, index, web_port, places.credential(Service.CALLS))
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
