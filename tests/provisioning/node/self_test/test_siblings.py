"""The check of siblings' inference against real doors; each node has an address of this machine."""

import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from contract.settings import parse_settings
from edge.inference.metrics import DoorCounts
from edge.inference.models import Models
from edge.inference.service import SIBLING_RANKS, InferenceService
from edge.inference.settings import InferenceSettings
from edge.inference.sibling_door import sibling_server
from provisioning.identity.names import ServiceName, ServiceRole
from provisioning.node.identity_folder import IdentityFolder
from provisioning.node.inputs import Inputs
from provisioning.node.machine import IDENTITY, Machine
from provisioning.node.self_test import sibling_checks
from provisioning.node.self_test.checks import CheckSkippedError, CheckWarningError, Outcome, run
from provisioning.node.self_test.sibling_checks import SiblingChecks
from tests.provisioning.node.conftest import REGION, Enrolled

HOME, SIBLING = "in-south-1", "in-south-2"
HERE = {HOME: "127.0.0.1", SIBLING: "127.0.0.2"}
TELLS = "siblings would answer for this node's inference"


@dataclass(frozen=True, slots=True)
class Doors:
    """A region of these two, seen from HOME."""

    region: Enrolled
    machine: Machine
    port: int

    def checks(self) -> SiblingChecks:
        inputs = Inputs(self.machine)
        return SiblingChecks(inputs, inputs.node(), port=self.port)

    @contextlib.asynccontextmanager
    async def open(self, node: str, roster: Path | None = None) -> AsyncIterator[DoorCounts]:
        """The door of a node's inference, without models."""
        store, counts = self.region.store, DoorCounts()
        name = ServiceName(site=REGION, node=node, role=ServiceRole.INFERENCE)
        text = (
            f'socket = "none"\n[siblings]\nhost = "{HERE[node]}"\nport = {self.port}\nregion = "{REGION}"\n'
            f'node = "{node}"\nauthority = "{store.authority_file}"\ncertificate = "{store.certificate_file(name)}"\n'
            f'key = "{store.key_file(name)}"\nroster = "{roster or self.machine.at(IDENTITY) / "roster.json"}"\n'
        )
        settings = parse_settings(Path("inference.toml"), text, InferenceSettings)
        assert settings.siblings is not None
        models = Models(recognisers=(), voices=(), generator=None, encoder=None)
        service = InferenceService(models, time.monotonic, SIBLING_RANKS)
        async with sibling_server(settings.siblings, service, counts):
            yield counts


@pytest.fixture
def doors(enrolled: Callable[..., Enrolled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Doors:
    monkeypatch.setattr(sibling_checks, "ANSWERS_WITHIN_S", 5.0)
    monkeypatch.setattr("tests.provisioning.node.conftest.ADDRESSES", HERE)
    region = enrolled(HOME, SIBLING)
    with socket.create_server((HERE[HOME], 0)) as server:
        port = int(server.getsockname()[1])
    return Doors(region=region, machine=region.machine(tmp_path / "root", HOME), port=port)


async def test_a_region_whose_nodes_help_each_other_out_passes(doors: Doors) -> None:
    """Both doors are asked; nobody is refused for that."""
    async with doors.open(HOME) as own, doors.open(SIBLING) as other:
        assert (await doors.checks().siblings()).startswith(f"1 {TELLS}")
        assert (own.refused, other.refused, other.served) == (0, 0, {HOME: 1})


async def test_what_is_shut_is_a_warning_with_its_remedy(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node takes calls all the same."""
    monkeypatch.setattr(sibling_checks, "ANSWERS_WITHIN_S", 0.3)
    (finding,) = await run(doors.checks().all(), lambda _: None)
    assert finding.outcome is Outcome.WARNED
    assert finding.detail == (
        f"this node's inference does not serve siblings; in-south-2 does not answer at 127.0.0.2:{doors.port}"
    )
    assert finding.advice.startswith("`borough node renew` brings the certificate")


async def test_a_sibling_that_does_not_know_the_certificate_is_named(doors: Doors, tmp_path: Path) -> None:
    """It has an older roster."""
    older = tmp_path / "older.json"
    older.write_text(doors.region.roster_json().replace("borough://in-south/in-south-1/calls/1", "nobody"))
    async with doors.open(HOME), doors.open(SIBLING, older):
        with pytest.raises(CheckWarningError, match=r"^in-south-2 does not know this node's certificate yet$"):
            await doors.checks().siblings()


async def test_a_sibling_without_a_certificate_is_named(doors: Doors) -> None:
    """One that enrolled before there was the role; the check is told by the roster."""
    doors.region.store.revoke(f"{REGION}/{SIBLING}/inference")
    IdentityFolder(doors.machine.at(IDENTITY)).save_roster(doors.region.roster_json(), 8)
    async with doors.open(HOME):
        with pytest.raises(CheckWarningError, match="in-south-2 has no certificate for it"):
            await doors.checks().siblings()


async def test_a_lone_node_has_nobody_to_ask(
    enrolled: Callable[..., Enrolled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No warning."""
    monkeypatch.setattr("tests.provisioning.node.conftest.ADDRESSES", HERE)
    inputs = Inputs(enrolled(HOME).machine(tmp_path / "lone", HOME))
    with pytest.raises(CheckSkippedError):
        await SiblingChecks(inputs, inputs.node()).siblings()
