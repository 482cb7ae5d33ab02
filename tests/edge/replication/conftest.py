"""A real nats-server with JetStream, and a replication service as a process of its own."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from edge.replication import service, watch
from edge.replication.settings import ReplicationSettings
from edge.settings_file import load_settings

NODE = "node-1"


@dataclass(frozen=True, slots=True)
class Server:
    """A running nats-server."""

    url: str
    directory: Path


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """New databases and replicas are looked for more often than on a node, where nobody waits for it."""
    monkeypatch.setattr(service, "DISCOVER_EVERY_S", 0.2)
    monkeypatch.setattr(watch, "LOOK_EVERY_S", 0.2)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    directory = tmp_path / "jetstream"
    argv = [
        str(Path(sys.executable).with_name("nats-server")),
        "-a",
        "127.0.0.1",
        "-p",
        str(port),
        "-js",
        "-sd",
        str(directory),
    ]
    with (tmp_path / "nats.log").open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
        try:
            yield Server(url=f"nats://127.0.0.1:{port}", directory=directory)
        finally:
            process.kill()


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    client = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, allow_reconnect=True)
    try:
        yield client
    finally:
        await client.close()


def write_settings(directory: Path, server: Server, records: Path) -> Path:
    """replication.toml for a node with these records."""
    path = directory / "replication.toml"
    path.write_text(
        f"""
[node]
name = "{NODE}"
[nats]
urls = ["{server.url}"]
[records]
directory = "{records}"
[litestream]
directory = "{directory / "litestream"}"
""",
        encoding="utf-8",
    )
    return path


def settings(directory: Path, server: Server, records: Path) -> ReplicationSettings:
    return load_settings(write_settings(directory, server, records), ReplicationSettings)


async def until(condition: Callable[[], bool], within_s: float = 20.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.05)


class Board:
    """Alarms as a test sees them."""

    def __init__(self) -> None:
        self.raised: set[str] = set()

    def set(self, code: str, *, is_raised: bool) -> None:
        (self.raised.add if is_raised else self.raised.discard)(code)


@contextlib.asynccontextmanager
async def running(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """A coroutine that runs for the length of the block."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        try:
            yield
        finally:
            task.cancel()
