"""The region of `borough up`, as a drill treats it: real processes with the files by which they are found."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench.drills.errors import DrillHandError, DrillImpossibleError
from bench.drills.kinds import DrillKind
from bench.drills.local_region import BALLAST, LocalRegion, local_region
from bench.drills.region import Blow
from provisioning.local.layout import StateLayout

NODE, REGION = "a-1", "a"
DISK_MIB, ROOM_LEFT = 32, 9 * 1024 * 1024
WITHIN_S = 10.0


@pytest.fixture
def layout(tmp_path: Path) -> StateLayout:
    layout = StateLayout(tmp_path)
    place = layout.node(NODE)
    for folder in (place.control, place.records, layout.run, layout.hub.control, tmp_path / "tenants"):
        folder.mkdir(parents=True, exist_ok=True)
    text = '[worker]\nname = "calls-1"\n[slots]\ndirectory = "slots"\ncapacity = 4\n[web]\nport = 1\n'
    (place.run / "calls-1.toml").write_text(text, encoding="utf-8")
    node = {
        "region": REGION,
        "name": NODE,
        "sip": "127.0.0.1:5060",
        "web": "",
        "control": str(place.control),
        "log": str(place.log),
        "inference_socket": "",
        "records": str(place.records),
        "sync": str(place.sync),
        "slots": str(place.run / "slots"),
        "capacity": 4,
    }
    carrier = {"sip_port": 1, "rtp_first": 2, "rtp_last": 3, "directory": str(layout.run)}
    document = {"tenants": str(tmp_path / "tenants"), "nodes": [node], "carrier": carrier}
    layout.region_file.write_text(json.dumps(document), encoding="utf-8")
    return layout


@contextmanager
def service(control: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        (control / f"{name}.pid").write_text(str(process.pid), encoding="utf-8")
        yield process
        process.kill()


@pytest.fixture
def processes(layout: StateLayout) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    control = layout.node(NODE).control
    with ExitStack() as stack:
        found = {name: stack.enter_context(service(control, name)) for name in ("inference", "calls-1", "sync")}
        found["hub"] = stack.enter_context(service(layout.hub.control, "nats"))
        yield found


@pytest.fixture
def region(layout: StateLayout, processes: dict[str, subprocess.Popen[bytes]]) -> LocalRegion:
    return local_region(layout, None)


def blow(kind: DrillKind, node: str = NODE) -> Blow:
    return Blow(kind=kind, node=node, call_id="gone", ends_after_s=1.0)


async def test_what_makes_sense_on_one_machine(region: LocalRegion, layout: StateLayout) -> None:
    possible = await region.possible()
    assert possible >= {DrillKind.WORKER, DrillKind.INFERENCE, DrillKind.HUB}
    assert not possible & {DrillKind.NODE, DrillKind.FRONT_DOOR, DrillKind.PARTITION, DrillKind.ASTERISK}
    with pytest.raises(DrillImpossibleError, match="no region b"):
        local_region(layout, "b")


async def test_only_the_inference_is_killed(region: LocalRegion, processes: dict[str, subprocess.Popen[bytes]]) -> None:
    await region.strike(blow(DrillKind.INFERENCE))
    assert processes["inference"].wait(WITHIN_S) == -signal.SIGKILL
    assert all(processes[name].poll() is None for name in ("calls-1", "sync", "hub"))
    (health,) = await region.health()
    assert "inference is dead" in health.troubles


async def test_the_hub_stays_away_until_it_is_put_back(
    region: LocalRegion, layout: StateLayout, processes: dict[str, subprocess.Popen[bytes]]
) -> None:
    await region.strike(blow(DrillKind.HUB, node=""))
    assert processes["hub"].wait(WITHIN_S) == -signal.SIGKILL
    assert processes["sync"].poll() is None
    hold = layout.hub.control / "nats.hold"
    assert hold.exists()
    assert await region.hub_troubles() == ["nats is dead"]
    for _ in range(2):
        await region.undo(blow(DrillKind.HUB, node=""))
        assert not hold.exists()


async def test_a_call_that_is_over_cannot_be_struck(region: LocalRegion) -> None:
    with pytest.raises(DrillHandError, match="no longer"):
        await region.strike(blow(DrillKind.WORKER))


@pytest.fixture
def small_disk(layout: StateLayout) -> Iterator[Path]:
    """The records have a disk of their own."""
    if os.geteuid() != 0:
        pytest.skip("mounts a disk")
    records = layout.node(NODE).records
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(records)], check=True)
    yield records
    subprocess.run(["umount", "--lazy", str(records)], check=True)


def test_a_full_disk_has_room_again_even_if_nobody_comes_back(region: LocalRegion, small_disk: Path) -> None:
    assert DrillKind.DISK_FULL in asyncio.run(region.possible())
    asyncio.run(region.strike(blow(DrillKind.DISK_FULL)))
    disk = os.statvfs(small_disk)
    assert disk.f_bavail * disk.f_frsize < ROOM_LEFT
    deadline = time.monotonic() + WITHIN_S
    while (small_disk / BALLAST).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not (small_disk / BALLAST).exists()
    asyncio.run(region.undo(blow(DrillKind.DISK_FULL)))
