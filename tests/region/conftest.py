"""A hub and a region of three nodes, made of bare machines by the playbooks; one for all tests of this folder.

Tests run in the order of FILES: what changes the region comes last, what takes a node away at the very end.
BOROUGH_KEEP_MACHINES=1 leaves it standing, and the next run takes it as it is.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rehearsal import rehearsal_trunk
from bench.target import Trunk
from provisioning.local.layout import StateLayout
from provisioning.machines.errors import MachineUnknownError
from provisioning.machines.machine import Machine
from provisioning.machines.region import RegionRehearsal
from tests.region.asking import Host, host_of

KEEP = "BOROUGH_KEEP_MACHINES"
FOLDER = Path(__file__).parent
FILES = (
    "test_calls.py",
    "test_roles.py",
    "test_services.py",
    "test_observability.py",
    "test_exposure.py",
    "test_converge.py",
    "test_rotation.py",
    "test_upgrade.py",
    "test_loss.py",
    "test_leaving.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the region; its files are taken in their order, whatever else is collected."""
    places = [index for index, item in enumerate(items) if item.path.parent == FOLDER]
    ours = sorted((items[index] for index in places), key=lambda item: FILES.index(item.path.name))
    for index, item in zip(places, ours, strict=True):
        item.add_marker(pytest.mark.region)
        item.add_marker(pytest.mark.timeout(3600))
        items[index] = item


@pytest.fixture(scope="session")
def region() -> Iterator[RegionRehearsal]:
    """The region, answering calls."""
    if os.geteuid() != 0 or shutil.which("systemd-nspawn") is None:
        pytest.skip("needs root and systemd-container")
    rehearsal = RegionRehearsal(layout=StateLayout())
    keeps = bool(os.environ.get(KEEP))
    if not keeps and _is_anything_running(rehearsal):
        pytest.fail(f"machines run already: `borough machines down` ends them, {KEEP}=1 tests them")
    try:
        if not (keeps and rehearsal.stands):
            _make(rehearsal)
        yield rehearsal
    finally:
        if not keeps:
            _clear(rehearsal)


@pytest.fixture(scope="session")
def trunk(region: RegionRehearsal) -> Trunk:
    """The carrier's side of it."""
    return rehearsal_trunk(region.layout, region.plan)


@pytest.fixture(scope="session")
def hub(region: RegionRehearsal) -> Machine:
    """The hub's machine."""
    return region.rehearsal.machine(region.plan.hub.name)


@pytest.fixture(scope="session")
def nodes(region: RegionRehearsal) -> list[Machine]:
    """The machines of the region."""
    return [region.rehearsal.machine(place.name) for place in region.plan.region_nodes]


@pytest.fixture(scope="session")
def neighbour(region: RegionRehearsal) -> Machine:
    """A machine in the same network that has no business with the region."""
    return region.rehearsal.machine(region.plan.spare_places[0].name)


@pytest.fixture(scope="session")
def sockets() -> Iterator[Path]:
    """Where connections are shared. Short, as names of sockets have to be."""
    with tempfile.TemporaryDirectory(prefix="borough-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def members(nodes: list[Machine], sockets: Path) -> list[Host]:
    """All nodes, to be asked."""
    return [host_of(node, sockets) for node in nodes]


@pytest.fixture(scope="session")
def hub_host(hub: Machine, sockets: Path) -> Host:
    """The hub, to be asked."""
    return host_of(hub, sockets)


@pytest.fixture(scope="module", params=["hub", "observer", "node"])
def host(request: pytest.FixtureRequest, hub_host: Host, members: list[Host]) -> Host:
    """The hub, the node that observes, and one that does not."""
    return {"hub": hub_host, "observer": members[0], "node": members[-1]}[request.param]


@pytest.fixture(scope="module", params=["observer", "node"])
def node(request: pytest.FixtureRequest, members: list[Host]) -> Host:
    """The node that observes, and one that does not."""
    return members[0] if request.param == "observer" else members[-1]


def _make(rehearsal: RegionRehearsal) -> None:
    _clear(rehearsal)
    manifest = rehearsal.build()
    rehearsal.boot()
    rehearsal.write_inventory(manifest.version)
    rehearsal.provision()


def _is_anything_running(rehearsal: RegionRehearsal) -> bool:
    try:
        return any(machine.pid is not None for machine in rehearsal.rehearsal.machines())
    except MachineUnknownError:
        return False


def _clear(rehearsal: RegionRehearsal) -> None:
    with contextlib.suppress(MachineUnknownError):
        rehearsal.down()
