"""A whole region for the tests of this folder: real Asterisk, inference and workers, with the checkout's models."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench.target import Target, read_target
from provisioning.local.background import start_in_background, stop_background
from provisioning.local.layout import DEFAULT_STATE, StateLayout
from provisioning.local.machine import MachineOptions
from provisioning.local.node import sip_is_possible
from provisioning.local.services import services

DISK_MIB = 1024
# A node counts its calls every minute; tests wait for what it counted.
COUNTS_EVERY_S = 2
SHARED = ("models", "images", "prepared", "vectors", "bench")


@pytest.fixture(scope="session")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A running region with two workers; its state is its own, what takes long to make is the checkout's."""
    if not sip_is_possible():
        pytest.skip("Asterisk cannot be installed here")
    root: Path = tmp_path_factory.mktemp("region")
    for name in SHARED:
        (DEFAULT_STATE / name).mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(DEFAULT_STATE / name)
    layout = StateLayout(root)
    with small_disk(root / "nodes"):
        start_in_background(MachineOptions(layout=layout, capacity=4))
        try:
            _count_often(layout)
            yield read_target(layout)
        finally:
            stop_background(layout)


def _count_often(layout: StateLayout) -> None:
    """Change the settings of every node agent; killed, it comes back with them."""
    for agent in [service for service in services(layout) if service.name == "sync"]:
        with (layout.node(agent.place).run / "sync.toml").open("a", encoding="utf-8") as config:
            config.write(f"[rollups]\nevery_s = {COUNTS_EVERY_S}\n")
        assert agent.pid is not None
        os.kill(agent.pid, signal.SIGTERM)


@contextmanager
def small_disk(place: Path) -> Iterator[None]:
    """A file system of its own for what nodes write, so that a test can fill it."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def is_alive(pid: int) -> bool:
    """Whether a process of this id runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
