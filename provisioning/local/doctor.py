"""Checks that this machine can run a node, each with the command that mends it."""

import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from provisioning.asterisk.image import image_directory, missing_requirement, read_recipe
from provisioning.local.layout import StateLayout

NEEDED_MEMORY_GIB = 4
NEEDED_DISK_GIB = 3
NEEDED_CORES = 2
# The clock source of the telephone network is 50 frames a second; a machine that oversleeps by this stutters.
TOLERATED_OVERSLEEP_S = 0.010


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One check: whether it holds, what was seen, and what to do when it does not hold."""

    check: str
    is_ok: bool
    seen: str
    fix: str = ""


def examine(layout: StateLayout) -> Iterator[Finding]:
    """Run every check; takes well under a second."""
    yield _processor()
    yield _cores()
    yield _memory()
    yield _disk(layout.root)
    yield _clock()
    yield _image_requirements()
    yield _image(layout)
    yield _models(layout)


def _processor() -> Finding:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    has_avx2 = " avx2 " in flags
    seen = f"{platform.machine()}, {'AVX-512' if ' avx512f ' in flags else 'AVX2' if has_avx2 else 'no AVX2'}"
    return Finding(check="processor", is_ok=has_avx2, seen=seen, fix="use a host CPU model that has AVX2")


def _cores() -> Finding:
    count = len(os.sched_getaffinity(0))
    return Finding(
        check="cores", is_ok=count >= NEEDED_CORES, seen=str(count), fix=f"give the machine {NEEDED_CORES} cores"
    )


def _memory() -> Finding:
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    is_ok = gib >= NEEDED_MEMORY_GIB
    return Finding(check="memory", is_ok=is_ok, seen=f"{gib:.1f} GiB", fix=f"give the machine {NEEDED_MEMORY_GIB} GiB")


def _disk(root: Path) -> Finding:
    existing = next(path for path in (root, *root.parents) if path.exists())
    gib = shutil.disk_usage(existing).free / 2**30
    is_ok = gib >= NEEDED_DISK_GIB
    return Finding(
        check="disk", is_ok=is_ok, seen=f"{gib:.1f} GiB free", fix=f"free {NEEDED_DISK_GIB} GiB under {existing}"
    )


def _clock() -> Finding:
    worst = 0.0
    for _ in range(10):
        started = time.monotonic()
        time.sleep(0.02)
        worst = max(worst, time.monotonic() - started - 0.02)
    is_ok = worst <= TOLERATED_OVERSLEEP_S
    seen = f"20 ms sleeps are at most {worst * 1000:.1f} ms late"
    return Finding(
        check="timer", is_ok=is_ok, seen=seen, fix="give the machine dedicated cores; something else is busy"
    )


def _image_requirements() -> Finding:
    missing = missing_requirement()
    return Finding(check="asterisk image tools", is_ok=missing is None, seen=missing or "present", fix="make setup")


def _image(layout: StateLayout) -> Finding:
    directory = image_directory(read_recipe(), layout.images)
    is_built = (directory / "manifest.json").exists()
    return Finding(
        check="asterisk image", is_ok=is_built, seen=str(directory) if is_built else "not built", fix="borough setup"
    )


def _models(layout: StateLayout) -> Finding:
    present = sorted(path.parent.name for path in layout.models.glob("*/model.json"))
    return Finding(check="models", is_ok=bool(present), seen=", ".join(present) or "none", fix="borough models fetch")
