"""What `borough drill run` was asked for."""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.drills.choice import DrillPlan
from bench.drills.inventory import read_inventory
from bench.drills.kinds import DrillKind, PartitionShape
from bench.drills.local_region import local_region
from bench.drills.machines_region import MachinesRegion
from bench.drills.power import power_of
from bench.drills.region import DrillRegion
from provisioning.local.layout import StateLayout

MOST_TIMES = 10_000
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


class Duration(click.ParamType[float]):
    """Seconds, written as 90s, 60m or 1h30m."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Raises click.BadParameter."""
        if isinstance(value, float):
            return value
        found = _DURATION.fullmatch(value)
        if not value or found is None:
            self.fail(f"{value!r} is no duration: it looks like 90s, 60m or 1h30m", param, ctx)
        hours, minutes, seconds = (int(part or 0) for part in found.groups())
        return float(hours * 3600 + minutes * 60 + seconds)


class Kinds(click.ParamType[frozenset[DrillKind]]):
    """Kinds of drills, with commas between them."""

    name = "kinds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> frozenset[DrillKind]:
        """Raises click.BadParameter."""
        if isinstance(value, frozenset):
            return value
        try:
            return frozenset(DrillKind(name.strip()) for name in value.split(","))
        except ValueError as error:
            self.fail(f"{error}; kinds are: {', '.join(DrillKind)}", param, ctx)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillOrder:
    """What the command line asks for."""

    kind: DrillKind | None
    region_name: str | None
    inventory: Path | None
    tenants: Path
    shape: str | None
    times: int | None
    for_s: float | None
    only: frozenset[DrillKind]
    at_once: int
    seed: int
    is_judged: bool
    reports: Path | None
    state: Path

    @property
    def layout(self) -> StateLayout:
        return StateLayout(self.state.resolve())

    @property
    def directory(self) -> Path:
        """Where its report goes."""
        return reports_in(self.reports, self.layout)

    @property
    def plan(self) -> DrillPlan:
        is_partition = self.kind is DrillKind.PARTITION
        if self.shape is not None and not (is_partition or self.kind is None):
            raise click.UsageError("--shape goes with partition and random")
        if self.only and self.kind is not None:
            raise click.UsageError("--only goes with random")
        # At random each partition draws its own.
        shape = self.shape or (PartitionShape.ALONE if is_partition else None)
        return DrillPlan(
            kind=self.kind,
            times=self.times or (1 if self.for_s is None else MOST_TIMES),
            for_s=self.for_s,
            only=self.only,
            seed=self.seed,
            at_once=self.at_once,
            shape=PartitionShape(shape) if shape else None,
        )

    def command(self) -> list[str]:
        """The command line that does the same, from anywhere."""
        given: dict[str, object] = {
            "--region": self.region_name,
            "--inventory": self.inventory.resolve() if self.inventory else None,
            "--tenants": self.tenants.resolve(),
            "--shape": self.shape,
            "--times": self.times,
            "--for": None if self.for_s is None else f"{self.for_s:.0f}s",
            "--only": ",".join(sorted(self.only)) or None,
            "--at-once": self.at_once,
            "--seed": self.seed,
            "--reports": self.directory,
            "--state": self.state.resolve(),
        }
        words = [str(word) for option, value in given.items() if value is not None for word in (option, value)]
        judge = "--judge" if self.is_judged else "--no-judge"
        return [str(Path(sys.executable).with_name("borough")), "drill", "run", self.plan.name, *words, judge]

    @contextmanager
    def region(self) -> Iterator[DrillRegion]:
        """The region, reachable inside the block."""
        if self.inventory is None:
            yield local_region(self.layout, self.region_name)
            return
        # Short, as names of sockets have to be.
        with tempfile.TemporaryDirectory(prefix="drill-") as sockets:
            yield MachinesRegion(
                inventory=read_inventory(self.inventory, self.region_name, Path(sockets)),
                power=power_of(self.inventory),
                layout=self.layout,
                tenants=self.tenants.resolve(),
            )


def reports_in(reports: Path | None, layout: StateLayout) -> Path:
    """Where reports are kept."""
    return reports.resolve() if reports is not None else layout.root / "drills"
