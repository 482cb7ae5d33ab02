"""The hub's connection on a real nats-server that knows its users by their certificates."""

import asyncio
import contextlib
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from controlplane.bus import open_bus
from controlplane.settings import NatsSection
from tests.controlplane.certificates import Authority

PROGRAM = Path(sys.executable).parent / "nats-server"
WITHIN_S = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.asynccontextmanager
async def server_for(directory: Path, authority: Authority, port: int, user: str) -> AsyncIterator[None]:
    """A server that lets in one certificate, by its name."""
    own = authority.issue("localhost")
    config = directory / "server.conf"
    config.write_text(
        f'listen: "127.0.0.1:{port}"\n'
        f'tls {{ cert_file: "{own.certificate}", key_file: "{own.key}", ca_file: "{authority.ca}"'
        f", verify_and_map: true }}\n"
        f'authorization {{ users: [{{ user: "CN={user}" }}] }}\n'
    )
    process = await asyncio.create_subprocess_exec(
        *(str(PROGRAM), "-c", str(config)), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def test_a_rotated_certificate_counts_from_the_next_connection_on(tmp_path: Path) -> None:
    """The server knows only the new generation afterwards; the hub goes on without a restart, even if the files were
    half written when it lost the connection."""
    authority, port = Authority(tmp_path / "ca"), free_port()
    before, after = authority.issue("before"), authority.issue("after")
    certificate, key = tmp_path / "hub.pem", tmp_path / "hub.key"
    shutil.copy(before.certificate, certificate)
    shutil.copy(before.key, key)
    section = NatsSection(url=f"tls://localhost:{port}", authority=authority.ca, certificate=certificate, key=key)
    async with asyncio.timeout(WITHIN_S):
        async with server_for(tmp_path, authority, port, "before"):
            connecting = open_bus(section)
            bus = await connecting.__aenter__()
        try:
            is_back = asyncio.Event()
            bus.on_reconnect.append(is_back.set)
            certificate.write_bytes(b"")
            while bus.client.is_connected:
                await asyncio.sleep(0.02)
            shutil.copy(after.certificate, certificate)
            shutil.copy(after.key, key)
            async with server_for(tmp_path, authority, port, "after"):
                await is_back.wait()
                await bus.client.flush()
        finally:
            await connecting.__aexit__(None, None, None)
