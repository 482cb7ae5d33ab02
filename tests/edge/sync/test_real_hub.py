"""Node agents against the real control plane: what an operator applies runs on every node, and the hub knows it."""

import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from edge.sync.folder import SyncFolder
from edge.sync.settings import HubSection
from tests.controlplane.hub_process import Hub
from tests.controlplane.test_border import hub_of
from tests.controlplane.test_replication import metrics_of
from tests.controlplane.test_service import write_estate
from tests.edge.sync.hub import REGION
from tests.edge.sync.played import agent, settings_of, until
from tests.nats_network import eventually, nats_network


def trusting(hub: Hub) -> HubSection:
    """The hub's own signing key, as a node is given it."""
    private = load_pem_private_key((hub.directory / "signing.pem").read_bytes(), password=None)
    public = hub.directory / "signing.pub"
    public.write_bytes(private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return HubSection(trusted_keys=(public,))


@pytest.fixture
def quiet() -> Iterator[None]:
    """The agents log in this process, whose standard output the command line's runner captures."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.mark.usefixtures("quiet")
async def test_what_an_operator_applies_runs_on_every_node(tmp_path: Path) -> None:
    estate = write_estate(tmp_path / "estate")
    async with nats_network(tmp_path / "nats", {REGION: 2}) as network:
        hub = hub_of(network, tmp_path / "hub")
        try:
            await hub.start("hub-1")
            await hub.until_active("hub-1")
            assert (await hub.run("apply", "-f", str(estate))).exit_code == 0
            nodes = [settings_of(network, tmp_path, number, hub=trusting(hub)) for number in (1, 2)]
            folders = [SyncFolder(node.sync.directory, node=node.node.name, bundles_kept=3) for node in nodes]

            async def is_settled() -> bool:
                status = json.loads((await hub.run("fleet", "status", "--json")).output)
                (region,) = (found for found in status["regions"] if found["region"] == REGION)
                return len(region["nodes"]) == 2 and not any(
                    node.get("is_drifted") or node.get("is_silent") for node in region["nodes"]
                )

            async with agent(nodes[0]), agent(nodes[1]):
                await until(lambda: [folder.current() for folder in folders] == [1, 1], within_s=30)
                await eventually(is_settled, within_s=20)
                line = estate / "bank/agent.yaml"
                line.write_text(line.read_text().replace("Hello from bank.", "Welcome."))
                assert (await hub.run("apply", "-f", str(estate))).exit_code == 0
                began = time.monotonic()
                await until(lambda: [folder.current() for folder in folders] == [2, 2])
                assert time.monotonic() - began < 2
                await eventually(is_settled, within_s=20)
                # Nothing of it looks like a way out.
                status = json.loads((await hub.run("fleet", "status", "--json")).output)
                shown = next(found for found in status["regions"] if found["region"] == REGION)
                assert not any("border_refused" in node.get("alarms", []) for node in shown["nodes"])
                metrics = await metrics_of(hub, "hub-1")
                assert metrics['borough_hub_alarm{code="border_refused"}'] == 0
        finally:
            await hub.stop()
