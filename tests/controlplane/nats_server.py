"""A real nats-server with JetStream in the folder of a test."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import nats
from nats.aio.client import Client

PROGRAM = Path(sys.executable).parent / "nats-server"
READY_WITHIN_S = 10.0


class NatsServer:
    """Starts, stops and restarts one server; it keeps its port and its data."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self._port = -1

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    async def start(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        config = self._directory / "nats.conf"
        # Streams have the limits that they have in production, whatever the disk of this machine holds.
        config.write_text(json.dumps({"jetstream": {"store_dir": str(self._directory / "data"), "max_file": 2**50}}))
        self._process = await asyncio.create_subprocess_exec(
            *(str(PROGRAM), "-a", "127.0.0.1", "-p", str(self._port), "-c", str(config)),
            *("--ports_file_dir", str(self._directory)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        ports = self._directory / f"nats-server_{self._process.pid}.ports"
        deadline = time.monotonic() + READY_WITHIN_S
        while not ports.exists() or not ports.read_text():
            assert time.monotonic() < deadline, "nats-server did not start"
            await asyncio.sleep(0.02)
        self._port = int(json.loads(ports.read_text())["nats"][0].rpartition(":")[2])

    async def stop(self) -> None:
        """Kill it as a crash would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._process = None


@contextlib.asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[Client]:
    """A connection that reconnects for as long as it lasts."""

    async def ignore(error: Exception) -> None:
        del error

    client = await nats.connect(
        server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=ignore, connect_timeout=2
    )
    try:
        yield client
    finally:
        with contextlib.suppress(OSError):  # nats-py drains a socket that is gone
            await client.close()
