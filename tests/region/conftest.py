"""A hub and a region of three nodes, made of bare machines by the playbooks; one for all tests of this folder.

Tests run in the order of their files: what changes the region for good comes last. BOROUGH_KEEP_MACHINES=1 leaves it
standing, and the next run takes it as it is.
"""

import os
import shutil
from collections.abc import Iterator

import pytest

from bench.rehearsal import rehearsal_trunk
from bench.target import Trunk
from provisioning.local.layout import StateLayout
from provisioning.machines.region import RegionRehearsal

KEEP = "BOROUGH_KEEP_MACHINES"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here needs the region."""
    for item in items:
        if "tests/region" in item.nodeid:
            item.add_marker(pytest.mark.region)
            item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def region() -> Iterator[RegionRehearsal]:
    """The region, answering calls."""
    if os.geteuid() != 0 or shutil.which("systemd-nspawn") is None:
        pytest.skip("needs root and systemd-container")
    rehearsal = RegionRehearsal(layout=StateLayout())
    try:
        if not (os.environ.get(KEEP) and rehearsal.inventory.exists()):
            manifest = rehearsal.build()
            rehearsal.boot()
            rehearsal.write_inventory(manifest.version)
            rehearsal.provision()
        yield rehearsal
    finally:
        if not os.environ.get(KEEP):
            rehearsal.down()


@pytest.fixture(scope="session")
def trunk(region: RegionRehearsal) -> Trunk:
    """The carrier's side of it."""
    return rehearsal_trunk(region.layout, region.plan)
