"""The hub's database outlives the disk it is on: real Litestream, real certificates and permissions, kill -9."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from contract.downlink_pb2 import BundleManifest, BundleMessage
from contract.subjects import bundle, config_stream
from provisioning.identity.names import ServiceRole
from tests.controlplane.hub_process import Hub
from tests.controlplane.test_service import fetch, write_estate
from tests.nats_network import Network, eventually, nats_network

REGION = "in-south"
# What was acknowledged this long before the loss must be there.
PROMISED_S = 1.0
APPLIES = 25


def replicated_hub(network: Network, directory: Path) -> Hub:
    store = network.deployment.identities

    def files(role: ServiceRole) -> str:
        name = network.hub.service(role)
        return f'certificate = "{store.certificate_file(name)}"\nkey = "{store.key_file(name)}"\n'

    directory.mkdir()
    return Hub(
        directory,
        f"tls://127.0.0.1:{network.hub.client_port}",
        f'authority = "{store.authority_file}"\n{files(ServiceRole.CONTROLPLANE)}',
        f"stalled_after_s = 2\n{files(ServiceRole.LITESTREAM)}",
    )


@dataclass(slots=True)
class Operator:
    """Applies one greeting after the other, and remembers which were acknowledged, and when."""

    hub: Hub
    estate: Path
    applied: list[tuple[int, float]] = field(default_factory=list)

    async def apply(self, number: int, instance: str) -> bool:
        agent = self.estate / "bank/agent.yaml"
        agent.write_text(re.sub(r"greeting: .*", f"greeting: Welcome {number}.", agent.read_text()))
        done = await self.hub.run("apply", "-f", str(self.estate), "--no-check", instance=instance)
        if done.exit_code == 0:
            self.applied.append((number, time.monotonic()))
        return done.exit_code == 0

    async def apply_until_refused(self, instance: str) -> None:
        while await self.apply(len(self.applied), instance):
            pass

    async def stored(self, instance: str) -> int:
        shown = (await self.hub.run("get", "agent", "bank/line", instance=instance)).output
        found = re.search(r"Welcome (\d+)\.", shown)
        assert found is not None, shown
        return int(found[1])


@contextlib.asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[tuple[Network, Operator]]:
    async with nats_network(tmp_path / "nats", {REGION: 1}) as network:
        hub = replicated_hub(network, tmp_path / "hub")
        try:
            await hub.start("hub-1")
            await hub.until_active("hub-1")
            yield network, Operator(hub, write_estate(tmp_path / "estate"))
        finally:
            await hub.stop()


async def versions(central: Client) -> list[int]:
    """Of all bundles that the region's stream holds, in its order."""
    jetstream = central.jetstream()
    state = (await jetstream.stream_info(config_stream(REGION))).state
    found = []
    for seq in range(state.first_seq, state.last_seq + 1):
        try:
            message = await jetstream.get_msg(config_stream(REGION), seq)
        except NotFoundError:  # eight of a subject are kept
            continue
        if message.subject == bundle(REGION):
            manifest = BundleMessage.FromString(message.data or b"").manifest.body
            found.append(BundleManifest.FromString(manifest).version)
    return found


async def verify_audit(hub: Hub, instance: str) -> list[str]:
    """The chain is whole; returns the actions in it."""
    verified = await hub.run("admin", "audit", "verify", instance=instance, person="cora", role="compliance")
    assert verified.exit_code == 0, verified.output
    listed = await hub.run(
        "admin", "audit", "list", "--limit", "200", "--json", instance=instance, person="cora", role="compliance"
    )
    return [entry["action"] for entry in json.loads(listed.output)["entries"]]


@pytest.mark.timeout(180)
async def test_a_hub_that_lost_its_disk_goes_on_elsewhere(tmp_path: Path) -> None:
    async with running(tmp_path) as (network, operator):
        hub = operator.hub
        central = await network.connect(network.hub, ServiceRole.CONTROLPLANE)
        async with asyncio.TaskGroup() as tasks:
            applying = tasks.create_task(operator.apply_until_refused("hub-1"))

            async def enough() -> bool:
                applied = operator.applied
                return len(applied) >= APPLIES and time.monotonic() - applied[0][1] > 3 * PROMISED_S

            await eventually(enough, within_s=60)
            hub.kill("hub-1")
            killed_at = time.monotonic()
            await applying
        shutil.rmtree(hub.disk("hub-1"))
        sent = await versions(central)
        await hub.start("hub-2")
        took_s = await hub.until_active("hub-2")
        promised = [number for number, at in operator.applied if at < killed_at - PROMISED_S]
        stored = await operator.stored("hub-2")
        sys.stderr.write(f"applied {operator.applied[-1][0]}, stored {stored}, active after {took_s:.1f} s\n")
        assert stored >= promised[-1]
        actions = await verify_audit(hub, "hub-2")
        assert actions.count("documents.apply") >= len(promised)
        assert "database.restored" in actions
        assert await operator.apply(1000, "hub-2")

        async def goes_on() -> bool:
            return (await versions(central))[-1] > sent[-1]

        await eventually(goes_on)
        now = await versions(central)
        assert now == sorted(set(now))


@pytest.mark.timeout(180)
async def test_an_older_disk_is_set_aside_and_its_own_is_kept(tmp_path: Path) -> None:
    """There and back: the standby has an empty disk first, and one that is too old when it takes over again."""
    async with running(tmp_path) as (_, operator):
        hub = operator.hub
        assert await operator.apply(1, "hub-1")
        await replicated(hub, "hub-1")
        await hub.start("hub-2")
        assert await hub.terminate("hub-1") == 0
        await hub.until_active("hub-2")
        assert await operator.stored("hub-2") == 1
        assert await operator.apply(2, "hub-2")
        await hub.start("hub-1")
        # Asked to end, it uploads all of it first.
        assert await hub.terminate("hub-2") == 0
        await hub.until_active("hub-1")
        assert await operator.stored("hub-1") == 2
        assert list(hub.disk("hub-1").glob("hub.sqlite3.aside-*"))
        assert "hub_database_set_aside" in hub.events("hub-1")
        assert await operator.apply(3, "hub-1")
        hub.kill("hub-1")
        await hub.start("hub-1")
        await hub.until_active("hub-1")
        # Its own disk has more than the replica may have.
        assert await operator.stored("hub-1") == 3
        assert hub.events("hub-1").count("hub_database_restored") == 1
        assert (await verify_audit(hub, "hub-1")).count("database.restored") == 2


@pytest.mark.timeout(120)
async def test_a_litestream_that_stands_still_is_an_alarm_and_one_that_dies_is_started_again(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, operator):
        hub = operator.hub
        await replicated(hub, "hub-1")
        frozen = litestream_of(hub, "hub-1")
        os.kill(frozen, signal.SIGSTOP)
        assert await operator.apply(1, "hub-1")

        async def is_alarmed() -> bool:
            return (await metrics_of(hub, "hub-1"))['borough_hub_alarm{code="replication_stalled"}'] == 1

        await eventually(is_alarmed, within_s=20)
        os.kill(frozen, signal.SIGKILL)
        await replicated(hub, "hub-1")
        assert litestream_of(hub, "hub-1") != frozen
        assert not await is_alarmed()


def litestream_of(hub: Hub, instance: str) -> int:
    """The process that has this instance's settings."""
    config = f"{hub.disk(instance)}/litestream/litestream.yml"
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if config in (process / "cmdline").read_bytes().decode().split("\0"):
                return int(process.name)
    raise AssertionError("it does not run")


async def metrics_of(hub: Hub, instance: str) -> dict[str, float]:
    _, metrics = await fetch(hub, instance, "metrics")
    pairs = (line.rsplit(" ", 1) for line in metrics.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


async def replicated(hub: Hub, instance: str) -> None:
    async def is_so() -> bool:
        values = await metrics_of(hub, instance)
        return values["borough_hub_replication_files"] > 0 and values["borough_hub_replication_lag_seconds"] == 0

    await eventually(is_so, within_s=20)
