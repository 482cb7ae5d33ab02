"""Which regions and nodes run on this machine, and where each keeps its things."""

import re
from dataclasses import dataclass
from pathlib import Path

from contract.names import REGION_PATTERN
from provisioning.local.errors import RegionPlanError

DEFAULT_REGIONS = "local:1"
# Asterisk, inference and two workers a node: more does not fit a developer's machine.
MOST_NODES = 6
_REGION = re.compile(rf"({REGION_PATTERN})(?::([1-9]))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlan:
    """One node; `index` counts over all regions from 0, for ports."""

    region: str
    name: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionPlan:
    """A region and its nodes."""

    name: str
    nodes: tuple[NodePlan, ...]


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """The folder of one node: what is the node's alone."""

    root: Path

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def log(self) -> Path:
        return self.run / "log"

    @property
    def control(self) -> Path:
        return self.run / "control"

    @property
    def records(self) -> Path:
        return self.root / "records"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def sync(self) -> Path:
        return self.root / "sync"


def parse_regions(text: str) -> tuple[RegionPlan, ...]:
    """Read "in-south:2,eu-central:1" (name and number of nodes). Raises RegionPlanError."""
    regions: list[RegionPlan] = []
    count = 0
    for part in text.split(","):
        match = _REGION.fullmatch(part.strip())
        if match is None:
            raise RegionPlanError(f"{part.strip()!r} is no region: it must look like in-south or in-south:2")
        name = match.group(1)
        if name in {region.name for region in regions}:
            raise RegionPlanError(f"region {name} is given twice")
        size = int(match.group(2) or 1)
        nodes = tuple(NodePlan(region=name, name=f"{name}-{i + 1}", index=count + i) for i in range(size))
        regions.append(RegionPlan(name=name, nodes=nodes))
        count += size
    if count > MOST_NODES:
        raise RegionPlanError(f"{count} nodes are too many for one machine; at most {MOST_NODES}")
    return tuple(regions)
