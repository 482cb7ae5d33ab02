"""A hub as `borough node init-hub` and `render` make it, run without systemd: nats-server, authority, control plane.

Places of a machine are moved below a folder in what was rendered; nothing else of it is changed.
"""

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from click.testing import CliRunner, Result

from controlplane.cli.apply import apply
from controlplane.cli.fleet import fleet
from controlplane.cli.node_tokens import token
from edge.cli import PluggedGroup
from provisioning.identity.names import ServiceRole
from provisioning.node.cli import node
from provisioning.node.identity_folder import IdentityFolder
from provisioning.node.machine import ADMIN, DESCRIPTION, IDENTITY, IDENTITY_STORE, RENDERED, Machine

READY_WITHIN_S = 40.0
NATS_SERVER = Path(sys.executable).with_name("nats-server")
REGION = """\
apiVersion: borough/v1
kind: Region
metadata: {name: in-south}
spec: {title: Chennai, country: IN, timezone: Asia/Kolkata, jurisdictions: [dpdp]}
"""

borough = PluggedGroup("borough")
for command in (apply, fleet, token, node):
    borough.add_command(command)


async def run(*arguments: str) -> Result:
    """A command of `borough`, in a thread as it has a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, borough, list(arguments))


@dataclass(frozen=True, slots=True, kw_only=True)
class RealHub:
    """A hub that serves."""

    machine: Machine
    enrolment_port: int
    renewal_port: int
    leaf_port: int
    log: Path
    # nats-server first.
    processes: list[asyncio.subprocess.Process] = field(default_factory=list)

    @property
    def context(self) -> Path:
        return self.machine.at(ADMIN) / "context.toml"

    async def token(self, node: str, *options: str) -> str:
        """A new one-time token."""
        arguments = ("token", "create", "in-south", "--node", node, "--json", "--context", str(self.context), *options)
        made = await run(*arguments)
        assert made.exit_code == 0, made.output
        return str(json.loads(made.stdout)["token"])

    async def render(self) -> str:
        """Bring the settings up to date, as borough-roster.service does."""
        result = await run("node", "render", "--root", str(self.machine.root))
        assert result.exit_code == 0, result.output
        return result.stdout

    async def take_over(self) -> None:
        """Bring the settings up to date and start nats-server anew, as borough-roster.service does for a new region."""
        await self.render()
        _place(self.machine, "nats.conf", {})
        self.processes[0].terminate()
        await self.processes[0].wait()
        self.processes[0] = await _start_nats(self)

    def nats_conf(self) -> str:
        return (self.machine.at(RENDERED) / "nats.conf").read_text()


@asynccontextmanager
async def real_hub(root: Path, address: str = "127.0.0.1") -> AsyncIterator[RealHub]:
    """Run a hub inside the block, at an address of this machine; it knows the region in-south."""
    machine, ports = Machine(root), _free_ports(8)
    client, leaf, monitor, admin, enrolment, renewal, metrics, authority_metrics = ports
    machine.at(DESCRIPTION).parent.mkdir(parents=True)
    machine.at(DESCRIPTION).write_text(
        f'kind = "hub"\n[machine]\nname = "hub-1"\naddress = "{address}"\n'
        f"[nats]\nclient_port = {client}\nleaf_port = {leaf}\nmonitor_port = {monitor}\n"
        f'[admin]\nhost = "{address}"\nport = {admin}\n'
        f'[enrolment]\nhost = "{address}"\nport = {enrolment}\nrenewal_port = {renewal}\n'
    )
    for command in ("init-hub", "render"):
        result = await run("node", command, "--root", str(root))
        assert result.exit_code == 0, result.output
    settings = _moved(machine, {9104: metrics, 9105: authority_metrics})
    hub = RealHub(machine=machine, enrolment_port=enrolment, renewal_port=renewal, leaf_port=leaf, log=root / "log")
    processes = hub.processes
    try:
        python = (sys.executable, "-m")
        processes.append(await _start_nats(hub))
        authority = "provisioning.identity.authority_service"
        processes.append(await _start(hub, *python, authority, "--config", str(settings / "authority.toml")))
        await _until(hub, f"http://127.0.0.1:{monitor}/healthz")
        await _until(hub, f"http://127.0.0.1:{authority_metrics}/metrics")
        processes.append(await _start(hub, *python, "controlplane", "--config", str(settings / "hub.toml")))
        await _until(hub, f"http://127.0.0.1:{metrics}/ready")
        document = root / "region.yaml"
        document.write_text(REGION)
        applied = await run("apply", "-f", str(document), "--context", str(hub.context))
        assert applied.exit_code == 0, applied.output
        yield hub
    finally:
        for process in reversed(processes):
            process.kill()
            await process.wait()


def _moved(machine: Machine, ports: dict[int, int]) -> Path:
    """What was rendered, with credentials and folders where this test has them."""
    credentials, folder = _credentials(machine), _settings(machine)
    credentials.mkdir()
    folder.mkdir()
    identity, store = IdentityFolder(machine.at(IDENTITY)), machine.at(IDENTITY_STORE)
    for role in (ServiceRole.SERVER, ServiceRole.CONTROLPLANE, ServiceRole.LITESTREAM, ServiceRole.SYSTEM):
        files = identity.current(role)
        (credentials / f"{role}.pem").symlink_to(files.certificate)
        (credentials / f"{role}.key").symlink_to(files.key)
    (credentials / "authority.pem").symlink_to(identity.authority)
    (credentials / "signing.key").symlink_to(store / "signing.key")
    for place in ("var/lib/borough/nats", "var/lib/borough/hub", "var/log/borough/nats", "run/borough-nats"):
        (machine.root / place).mkdir(parents=True)
    (machine.root / "run/borough-authority").mkdir()
    for name in ("nats.conf", "hub.toml", "authority.toml"):
        _place(machine, name, ports)
    return folder


def _place(machine: Machine, name: str, ports: dict[int, int]) -> None:
    path = machine.at(RENDERED) / name
    text = path.read_text().partition("[replication]")[0]
    for unit in ("nats", "controlplane"):
        text = text.replace(f"/run/credentials/borough-{unit}.service", str(_credentials(machine)))
    for place in ("/var/lib/borough", "/var/log/borough", "/run/borough"):
        text = text.replace(f'"{place}', f'"{machine.root}{place}')
    for fixed, free in ports.items():
        text = text.replace(f"port = {fixed}", f"port = {free}")
    if "[replication]" in path.read_text() and "[enrolment]" not in text:
        text += "[enrolment]" + path.read_text().partition("[enrolment]")[2].replace(
            '"/run/borough', f'"{machine.root}/run/borough'
        )
    (_settings(machine) / name).write_text(text)


def _credentials(machine: Machine) -> Path:
    return machine.root / "credentials"


def _settings(machine: Machine) -> Path:
    return machine.root / "settings"


async def _start_nats(hub: RealHub) -> asyncio.subprocess.Process:
    return await _start(hub, str(NATS_SERVER), "-c", str(_settings(hub.machine) / "nats.conf"))


async def _start(hub: RealHub, *argv: str) -> asyncio.subprocess.Process:
    with hub.log.open("ab") as log:
        return await asyncio.create_subprocess_exec(*argv, stdout=log, stderr=log)


async def _until(hub: RealHub, url: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            assert time.monotonic() < deadline, hub.log.read_text()
            await asyncio.sleep(0.1)


def _free_ports(count: int) -> Sequence[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
