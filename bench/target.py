"""What the bench knows of the region under test: the file that `borough up` writes, and nothing else.

`.state/run/region.json`:

    {"node": {"sip": "127.0.0.1:PORT", "web": "http://127.0.0.1:PORT",
              "pids": {"asterisk": 1, "inference": 2, "calls": [3, 4]},
              "records": "DIR", "tenants": "DIR", "models": "DIR",
              "numbers": {"+15550100": "harbour-bank", "+15550200": "volt-electronics"}},
     "carrier": {"sip_port": PORT, "image": "DIR"}}

`node.sip` is the trunk; it accepts calls from 127.0.0.1 and rings humans at `carrier.sip_port`. The carrier itself is
started by the bench for the time of a run. `carrier` is null where there is no Asterisk (WebRTC only).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from bench.errors import RegionMissingError
from provisioning.local.errors import NotRunningError
from provisioning.local.layout import StateLayout, read_region_file


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProcesses:
    """Process ids of the node, for CPU and memory accounting; children count with their parents."""

    asterisk: int | None
    inference: int | None
    calls: tuple[int, ...]

    def all(self) -> tuple[int, ...]:
        return tuple(pid for pid in (self.asterisk, self.inference, *self.calls) if pid is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierPlace:
    """Where the carrier of a run listens and which image it runs from."""

    sip_port: int
    image: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A running region, as far as a caller and a judge need it."""

    sip: tuple[str, int] | None
    web_url: str
    processes: NodeProcesses
    records: Path
    tenants: Path
    models: Path
    numbers: Mapping[str, str]
    carrier: CarrierPlace | None

    def number_of(self, tenant: str) -> str:
        """The number that reaches a tenant. Raises RegionMissingError."""
        for number, owner in self.numbers.items():
            if owner == tenant:
                return number
        raise RegionMissingError(f"the running region has no number for tenant {tenant}")


class _Pids(BaseModel):
    asterisk: int | None = None
    inference: int | None = None
    calls: list[int] = []


class _Node(BaseModel):
    sip: Annotated[str, Field(pattern=r"^[^:]+:\d+$")] | None = None
    web: str
    pids: _Pids
    records: Path
    tenants: Path
    models: Path
    numbers: dict[str, str]


class _Carrier(BaseModel):
    sip_port: int
    image: Path


class _Region(BaseModel):
    node: _Node
    carrier: _Carrier | None = None


def read_target(layout: StateLayout | None = None) -> Target:
    """The region that runs on this machine. Raises RegionMissingError."""
    try:
        document = read_region_file(layout or StateLayout())
    except NotRunningError as error:
        raise RegionMissingError(str(error)) from error
    try:
        region = _Region.model_validate(document)
    except ValidationError as error:
        raise RegionMissingError(f"region.json of another version: {error}") from error
    return _target(region)


def _target(region: _Region) -> Target:
    node = region.node
    host, _, port = (node.sip or "").partition(":")
    return Target(
        sip=(host, int(port)) if node.sip else None,
        web_url=node.web,
        processes=NodeProcesses(
            asterisk=node.pids.asterisk, inference=node.pids.inference, calls=tuple(node.pids.calls)
        ),
        records=node.records,
        tenants=node.tenants,
        models=node.models,
        numbers=node.numbers,
        carrier=CarrierPlace(sip_port=region.carrier.sip_port, image=region.carrier.image) if region.carrier else None,
    )
