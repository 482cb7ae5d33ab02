"""A real hub: `python -m controlplane` with its own certificates, against a real nats-server."""

import asyncio
import json
import socket
import sys
import time
from pathlib import Path

from click.testing import CliRunner, Result

from controlplane.cli.admin import admin
from controlplane.cli.apply import apply
from controlplane.cli.documents import delete, describe, get, history, rollback
from controlplane.cli.fleet import fleet
from controlplane.cli.node_tokens import token
from edge.cli import PluggedGroup
from tests.controlplane.certificates import Authority, Identity, write_signing_key

READY_WITHIN_S = 20.0
TTL_S = 2.0

borough = PluggedGroup("borough")
for command in (admin, apply, delete, describe, fleet, get, history, rollback, token):
    borough.add_command(command)


class Hub:
    """Instances that share one folder: authority, signing key, database, people."""

    def __init__(
        self,
        directory: Path,
        nats_url: str,
        nats_files: str = "",
        replication: str | None = None,
        *,
        authority: Authority | None = None,
        sections: str = "",
    ) -> None:
        """`nats_files`: lines of TOML that name the certificates towards NATS. `replication`: those of Litestream;
        given, every instance has a disk of its own. `sections`: more of hub.toml."""
        self._nats_files = nats_files
        self._replication = replication
        self._sections = sections
        self.directory = directory
        self.authority = authority or Authority(directory / "identity")
        self.revoked = directory / "revoked.json"
        self._nats_url = nats_url
        self._people: dict[str, Identity] = {}
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._ports: dict[str, int] = {}
        write_signing_key(directory / "signing.pem")

    async def start(self, name: str) -> None:
        """Start an instance without waiting for it."""
        self._ports[name] = free_port()
        config = self.directory / f"{name}.toml"
        config.write_text(self._settings(name))
        with (self.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "controlplane", "--config", str(config), stderr=log, stdout=log
            )

    def kill(self, name: str) -> None:
        """As a crash would."""
        self._processes[name].kill()

    async def terminate(self, name: str) -> int:
        """As systemd would; returns the exit code."""
        process = self._processes[name]
        process.terminate()
        return await asyncio.wait_for(process.wait(), READY_WITHIN_S)

    async def stop(self) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
            await process.wait()

    def identity(self, person: str, role: str) -> Identity:
        if person not in self._people:
            self._people[person] = self.authority.issue(person, role)
        return self._people[person]

    def context(self, instance: str, identity: Identity) -> Path:
        """A context file with this certificate."""
        path = self.directory / f"{instance}-{identity.serial}.toml"
        path.write_text(
            f'address = "127.0.0.1:{self._ports[instance]}"\nauthority = "{self.authority.ca}"\n'
            f'certificate = "{identity.certificate}"\nkey = "{identity.key}"\n'
        )
        return path

    async def run(
        self,
        *arguments: str,
        instance: str = "hub-1",
        person: str = "ada",
        role: str = "operator",
        identity: Identity | None = None,
    ) -> Result:
        """Run a command of `borough` as a person."""
        context = self.context(instance, identity or self.identity(person, role))
        return await asyncio.to_thread(CliRunner().invoke, borough, [*arguments, "--context", str(context)])

    async def until_active(self, instance: str) -> float:
        """Wait until an instance serves; returns how long that took, in seconds."""
        began = time.monotonic()
        while (await self.run("fleet", "status", instance=instance)).exit_code != 0:
            assert time.monotonic() - began < READY_WITHIN_S, self.log(instance)
            await asyncio.sleep(0.05)
        return time.monotonic() - began

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()

    def events(self, name: str) -> list[str]:
        return [str(json.loads(line).get("event")) for line in self.log(name).splitlines() if line.startswith("{")]

    def metrics_port(self, name: str) -> int:
        """Where /metrics and /ready are."""
        return self._ports.setdefault(f"{name}:metrics", free_port())

    def disk(self, name: str) -> Path:
        """The folder of an instance's database."""
        return self.directory if self._replication is None else self.directory / f"{name}-disk"

    def _settings(self, name: str) -> str:
        identity = self.authority.issue(name, "controlplane")
        own = f'[replication]\ndirectory = "{self.disk(name)}/litestream"\n{self._replication}'
        return f"""
[hub]
name = "{name}"
[database]
path = "{self.disk(name) / "hub.sqlite3"}"
[nats]
url = "{self._nats_url}"
{self._nats_files}
[admin]
port = {self._ports[name]}
authority = "{self.authority.ca}"
certificate = "{identity.certificate}"
key = "{identity.key}"
revoked_file = "{self.revoked}"
[signing]
key_file = "{self.directory / "signing.pem"}"
[lease]
ttl_s = {TTL_S}
[metrics]
port = {self.metrics_port(name)}
{own if self._replication is not None else ""}
{self._sections}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
