"""`borough knowledge` against a real hub with a real inference service."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.cli.knowledge import knowledge
from tests.controlplane.estate_files import REGIONS
from tests.controlplane.hub_process import Hub, borough
from tests.controlplane.nats_server import NatsServer

borough.add_command(knowledge)

SHOP = """\
apiVersion: borough/v1
kind: Tenant
metadata: {name: shop}
spec:
  title: The shop
  governance: {regions: [eu-central, in-south], data_classes: [voice], recording: {consent: opt_in}}
---
apiVersion: borough/v1
kind: Agent
metadata: {name: line, tenant: shop}
spec:
  greeting: Hello.
  human: sip:desk@shop.local
  numbers: ["100"]
  knowledge:
    - {name: products, file: knowledge/products.jsonl}
  phrases:
    not_known: I don't know.
    not_understood: Sorry?
    transfer_failed: {busy: Busy., no_answer: Nobody., unreachable: Gone.}
    no_input: Hello?
    silence_goodbye: Bye.
    goodbye: Bye.
  intents:
    bye: {goodbye: true, examples: [bye, goodbye, that was all]}
"""
LINES = "".join(
    json.dumps({"id": f"p{number}", "version": 1, "title": f"Lamp {number}", "answer": f"It is lamp {number}."}) + "\n"
    for number in range(10)
)


class HubWithInference(Hub):
    """A hub that can make vectors."""

    socket: Path

    def _settings(self, name: str) -> str:
        return f'{super()._settings(name)}\n[inference]\nsocket = "{self.socket}"\n'


@pytest.fixture
async def hub(tmp_path: Path, nats_server: NatsServer, socket: Path) -> AsyncIterator[Hub]:
    running = HubWithInference(tmp_path / "hub", nats_server.url)
    running.socket = socket
    await running.start("hub-1")
    await running.until_active("hub-1")
    yield running
    await running.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The shop's documents, as an operator has them."""
    made = tmp_path / "shop"
    (made / "knowledge").mkdir(parents=True)
    (made / "regions.yaml").write_text(REGIONS)
    (made / "shop.yaml").write_text(SHOP)
    (made / "knowledge/products.jsonl").write_text(LINES)
    return made


async def as_json(hub: Hub, *arguments: str) -> Any:
    result = await hub.run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


async def test_an_operator_publishes_and_goes_back(hub: Hub, folder: Path) -> None:
    """From a folder of documents to versions, and back."""
    applied = await hub.run("apply", "-f", str(folder))
    assert applied.exit_code == 0, applied.output
    built = await hub.run("knowledge", "build", "-f", str(folder))
    assert built.exit_code == 0, built.output
    assert "10 added, 0 changed, 0 removed, 10 items" in built.output
    published = await as_json(hub, "knowledge", "publish", "shop")
    assert (published["version"], published["is_snapshot"]) == ("1", True)
    assert sorted(published["regions"]) == ["eu-central", "in-south"]
    changed = folder / "knowledge/products.jsonl"
    changed.write_text(LINES.replace("It is lamp 3.", "It is the best lamp."))
    built = await hub.run("knowledge", "build", "-f", str(folder), "--publish")
    assert "changed products/p3 Lamp 3" in built.output
    assert "version 2 as a delta" in built.output
    assert (await as_json(hub, "knowledge", "diff", "shop"))["changed"] == "0"
    assert (await as_json(hub, "knowledge", "rollback", "shop", "1"))["version"] == "3"
    nothing = await hub.run("knowledge", "publish", "shop")
    assert "nothing to publish" in nothing.output
    status = (await as_json(hub, "knowledge", "status"))["tenants"][0]
    assert (status["version"], status["items"], status["valid"]) == ("3", "10", "10")
    assert "shop" in (await hub.run("knowledge", "status", "shop")).output


async def test_mistakes_are_told(hub: Hub, folder: Path) -> None:
    """A viewer may look only; wrong usage, files and names are told."""
    assert (await hub.run("knowledge", "publish", "shop", person="val", role="viewer")).exit_code == 1
    assert (await hub.run("knowledge", "build")).exit_code == 2
    assert (await hub.run("knowledge", "build", "--tenant", "shop", "--source", "products")).exit_code == 2
    assert (await hub.run("knowledge", "build", "--tenant", "bank", "-f", str(folder))).exit_code == 2
    missing = await hub.run("knowledge", "build", "--tenant", "shop", "--source", f"x={folder}/none.csv", "--json")
    assert (missing.exit_code, "hub.knowledge_source" in missing.output) == (1, True)
    unknown = await hub.run("knowledge", "diff", "nobody", "--json")
    assert (unknown.exit_code, "hub.knowledge_not_found" in unknown.output) == (1, True)
