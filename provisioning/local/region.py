"""A whole region on one machine: one node of real parts, as processes that are started, watched and stopped together.

Renders every process's settings into the state folder and starts them in order: Asterisk, inference, call workers.
The processes share no code with this package: settings files are the border (edge/call/settings.py,
edge/inference/settings.py).
"""

import asyncio
import fcntl
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp

from provisioning.asterisk.image import ensure_image, missing_requirement
from provisioning.asterisk.instance import AsteriskInstance
from provisioning.asterisk.settings import AriAccess, AsteriskSettings, NodeDialplan, PortRange, TrunkPeer
from provisioning.local.errors import AlreadyRunningError
from provisioning.local.layout import EXAMPLE_TENANTS, StateLayout, free_port, secret_file, write_toml
from provisioning.local.process import Service, ServiceSpec, running

# Two cores serve this many calls within the latency promise (`borough bench capacity`).
DEFAULT_CAPACITY = 28
DEFAULT_WORKERS = 2
# Even ports only; every call needs two legs of two ports, and a drained port rests before it is used again.
RTP_PORTS = 2_000
NODE_RTP_FIRST = 20_000
CARRIER_RTP_FIRST = 24_000
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
class RegionOptions:
    """What to run. `sip` is False where Asterisk cannot be installed: calls then come over WebRTC only."""

    layout: StateLayout
    tenants: Path = EXAMPLE_TENANTS
    workers: int = DEFAULT_WORKERS
    capacity: int = DEFAULT_CAPACITY
    sip: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """The running region, as region.json describes it to the bench."""

    options: RegionOptions
    asterisk: AsteriskSettings | None
    carrier_sip_port: int
    inference: Service
    workers: tuple[Service, ...]
    web_ports: tuple[int, ...]
    asterisk_pid: int | None

    def describe(self) -> dict[str, object]:
        """The content of region.json."""
        layout = self.options.layout
        return {
            "supervisor_pid": os.getpid(),
            "node": {
                "sip": f"127.0.0.1:{self.asterisk.sip_port}" if self.asterisk else None,
                "web": f"http://127.0.0.1:{self.web_ports[0]}",
                "metrics": [f"http://127.0.0.1:{port}/metrics" for port in self.web_ports],
                "pids": {
                    "asterisk": self.asterisk_pid,
                    "inference": self.inference.pid,
                    "calls": [worker.pid for worker in self.workers],
                },
                "ari": _ari_description(self.asterisk),
                "records": str(layout.records),
                "slots": str(layout.run / "slots"),
                "capacity": self.options.capacity,
                "inference_socket": str(layout.run / "inference.sock"),
                "tenants": str(self.options.tenants),
            },
            "carrier": {
                "sip_port": self.carrier_sip_port,
                "rtp_first": CARRIER_RTP_FIRST,
                "rtp_last": CARRIER_RTP_FIRST + RTP_PORTS - 1,
                "directory": str(layout.run / "carrier"),
            },
        }


def _ari_description(asterisk: AsteriskSettings | None) -> dict[str, str] | None:
    if asterisk is None:
        return None
    return {"url": asterisk.ari_url, "user": asterisk.ari.user, "password": asterisk.ari.password}


def sip_is_possible() -> bool:
    """Whether this machine can build and run the Asterisk image."""
    return missing_requirement() is None


@asynccontextmanager
async def local_region(options: RegionOptions) -> AsyncIterator[Region]:
    """Run the region inside the block. Raises ServiceStartError, AsteriskImageError or AlreadyRunningError."""
    layout = options.layout
    async with AsyncExitStack() as stack:
        stack.enter_context(_sole_owner(layout))
        carrier_sip_port = free_port(socket.SOCK_DGRAM)
        asterisk = None
        if options.sip:
            root = await asyncio.to_thread(ensure_image, state_directory=layout.images)
            asterisk = await stack.enter_async_context(
                AsteriskInstance(root, _asterisk_settings(options, carrier_sip_port))
            )
        inference = await stack.enter_async_context(running(_inference(layout)))
        web_ports = tuple(free_port(socket.SOCK_STREAM) for _ in range(options.workers))
        settings = asterisk.settings if asterisk else None
        specs = [_worker(options, index, port, settings) for index, port in enumerate(web_ports, start=1)]
        workers = [await stack.enter_async_context(running(spec)) for spec in specs]
        region = Region(
            options=options,
            asterisk=settings,
            carrier_sip_port=carrier_sip_port,
            inference=inference,
            workers=tuple(workers),
            web_ports=web_ports,
            asterisk_pid=asterisk.pid if asterisk else None,
        )
        layout.region_file.write_text(json.dumps(region.describe(), indent=2), encoding="utf-8")
        layout.region_file.chmod(0o600)
        stack.callback(layout.region_file.unlink, missing_ok=True)
        yield region


@contextmanager
def _sole_owner(layout: StateLayout) -> Iterator[None]:
    """Hold the state folder's lock, so that two regions never share it."""
    layout.run.mkdir(parents=True, exist_ok=True)
    with (layout.run / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunningError(f"a region already runs in {layout.root}") from None
        yield


def _worker_name(index: int) -> str:
    return f"calls-{index}"


def _asterisk_settings(options: RegionOptions, carrier_sip_port: int) -> AsteriskSettings:
    return AsteriskSettings(
        name="node",
        directory=options.layout.run / "asterisk",
        dialplan=NodeDialplan(stasis_apps=tuple(_worker_name(index) for index in range(1, options.workers + 1))),
        sip_port=free_port(socket.SOCK_DGRAM),
        http_port=free_port(socket.SOCK_STREAM),
        rtp_ports=PortRange(first=NODE_RTP_FIRST, last=NODE_RTP_FIRST + RTP_PORTS - 1),
        peers=(TrunkPeer(name="trunk", host="127.0.0.1", port=carrier_sip_port, qualify_interval_s=0),),
        ari=AriAccess(password=secret_file(options.layout, "ari").read_text(encoding="utf-8")),
    )


def _inference(layout: StateLayout) -> ServiceSpec:
    listen, config = layout.run / "inference.sock", layout.run / "inference.toml"
    config.write_text(INFERENCE_SETTINGS.format(socket=listen, store=layout.models), encoding="utf-8")

    async def is_ready() -> bool:
        return await _accepts(listen)

    return ServiceSpec(
        name="inference",
        argv=[sys.executable, "-m", "edge.inference", "--config", str(config)],
        log=layout.run / "log" / "inference.log",
        is_ready=is_ready,
    )


def _worker(options: RegionOptions, index: int, web_port: int, asterisk: AsteriskSettings | None) -> ServiceSpec:
    layout, name = options.layout, _worker_name(index)
    sections: dict[str, dict[str, str | int | float | Path]] = {
        "worker": {"name": name},
        "inference": {"socket": layout.run / "inference.sock"},
        "tenants": {"directory": options.tenants},
        "slots": {"directory": layout.run / "slots", "capacity": options.capacity},
        "records": {"directory": layout.records, "subject_key_file": secret_file(layout, "subjects")},
        "speech": {"prepared": layout.prepared_audio, "vectors": layout.vectors},
        "models": {"vad": layout.models / VAD_MODEL},
        "web": {"host": "127.0.0.1", "port": web_port},
    }
    if asterisk is not None:
        password = secret_file(layout, "ari")
        base = asterisk.ari_url.removesuffix("/ari")
        sections["asterisk"] = {"url": base, "user": asterisk.ari.user, "password_file": password}
    config = write_toml(layout.run / f"{name}.toml", sections)

    async def is_ready() -> bool:
        return await _answers(f"http://127.0.0.1:{web_port}/ready")

    return ServiceSpec(
        name=name,
        argv=[sys.executable, "-m", "edge.call.worker", "--config", str(config)],
        log=layout.run / "log" / f"{name}.log",
        is_ready=is_ready,
        ready_within_s=FIRST_START_S,
        stop_within_s=45.0,
    )


async def _accepts(path: Path) -> bool:
    try:
        _, writer = await asyncio.open_unix_connection(str(path))
    except OSError:
        return False
    writer.close()
    return True


async def _answers(url: str) -> bool:
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1.0)) as session,
            session.get(url) as answer,
        ):
            return answer.status == HTTPStatus.OK
    except (aiohttp.ClientError, TimeoutError):
        return False
