"""What the bench knows of the region under test: the file that `borough up` writes, and nothing else.

Of each node, `sip` is the trunk; it accepts calls from 127.0.0.1 and rings humans at `carrier.sip_port`. The carrier
itself is started by the bench for the time of a run. `sip` is null where Asterisk cannot be installed (WebRTC only).
Calls go to the first node unless a bench says otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import yaml
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
class NodeAri:
    """Where the node's Asterisk is asked how many channels and bridges it has."""

    url: str
    user: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CarrierPlace:
    """The address and ports that are kept free for the carrier of a run, and its directory.

    `humans_from` are addresses beside the trunk's that may ring the carrier's humans.
    """

    sip_port: int
    rtp_first: int
    rtp_last: int
    directory: Path
    host: str = "127.0.0.1"
    humans_from: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trunk:
    """What a caller needs: where calls are taken, whom the numbers belong to, and the carrier's own place.

    `processes` are those whose processor time counts as the node's.
    """

    state: StateLayout
    sip: tuple[str, int] | None
    numbers: Mapping[str, str]
    carrier: CarrierPlace
    processes: NodeProcesses

    def number_of(self, tenant: str) -> str:
        """The number that reaches a tenant. Raises RegionMissingError."""
        for number, owner in self.numbers.items():
            if owner == tenant:
                return number
        raise RegionMissingError(f"the running region has no number for tenant {tenant}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target(Trunk):
    """A running node with its carrier, as far as a judge needs it too."""

    region: str
    node: str
    web_url: str
    metrics: tuple[str, ...]
    log: Path
    inference_socket: Path
    records: Path
    sync: Path
    tenants: Path
    capacity: int
    slots: Path
    ari: NodeAri | None


# Other keys are for other readers.
class _Ari(BaseModel):
    url: str
    user: str
    password: str


class _Node(BaseModel):
    region: str
    name: str
    sip: Annotated[str, Field(pattern=r"^[^:]+:\d+$")] | None = None
    web: str
    metrics: list[str] = []
    asterisk_pid: int | None = None
    control: Path
    log: Path
    inference_socket: Path
    records: Path
    sync: Path
    slots: Path
    capacity: int
    ari: _Ari | None = None


class _Carrier(BaseModel):
    sip_port: int
    rtp_first: int
    rtp_last: int
    directory: Path


class _Hub(BaseModel):
    nats_monitor: str


class _Region(BaseModel):
    tenants: Path
    hub: _Hub | None = None
    nodes: list[_Node]
    carrier: _Carrier


def read_target(layout: StateLayout | None = None) -> Target:
    """The first node that runs on this machine. Raises RegionMissingError."""
    return read_targets(layout)[0]


def read_targets(layout: StateLayout | None = None) -> tuple[Target, ...]:
    """Every node that runs on this machine. Raises RegionMissingError."""
    place = layout or StateLayout()
    region = _read(place)
    return tuple(_target(place, region, node) for node in region.nodes)


def hub_monitor_url(layout: StateLayout) -> str:
    """Where the hub's NATS server tells about its links. Raises RegionMissingError."""
    hub = _read(layout).hub
    if hub is None:
        raise RegionMissingError("the running region has no hub (`borough up --no-hub`)")
    return hub.nats_monitor


def _read(layout: StateLayout) -> _Region:
    try:
        return _Region.model_validate(read_region_file(layout))
    except NotRunningError as error:
        raise RegionMissingError(str(error)) from error
    except ValidationError as error:
        raise RegionMissingError(f"region.json of another version: {error}") from error


def _target(place: StateLayout, region: _Region, node: _Node) -> Target:
    host, _, port = (node.sip or "").partition(":")
    return Target(
        state=place,
        region=node.region,
        node=node.name,
        sip=(host, int(port)) if node.sip else None,
        web_url=node.web,
        metrics=tuple(node.metrics),
        processes=_processes(node),
        log=node.log,
        inference_socket=node.inference_socket,
        records=node.records,
        sync=node.sync,
        tenants=region.tenants,
        numbers=numbers_of(region.tenants),
        capacity=node.capacity,
        slots=node.slots,
        ari=NodeAri(url=node.ari.url, user=node.ari.user, password=node.ari.password) if node.ari else None,
        carrier=CarrierPlace(
            sip_port=region.carrier.sip_port,
            rtp_first=region.carrier.rtp_first,
            rtp_last=region.carrier.rtp_last,
            directory=region.carrier.directory,
        ),
    )


def _processes(node: _Node) -> NodeProcesses:
    """As they run now: a restarted service has another id."""

    def pid(path: Path) -> int:
        return int(path.read_text(encoding="utf-8"))

    return NodeProcesses(
        asterisk=node.asterisk_pid,
        inference=pid(node.control / "inference.pid"),
        calls=tuple(pid(path) for path in sorted(node.control.glob("calls-*.pid"))),
    )


def numbers_of(tenants: Path) -> dict[str, str]:
    """Called number -> tenant, from the agents' documents."""
    numbers: dict[str, str] = {}
    for path in sorted(tenants.glob("*/*.yaml")):
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8")):
            if isinstance(document, dict) and document.get("kind") == "Agent":
                for number in document.get("spec", {}).get("numbers", []):
                    numbers[str(number)] = path.parent.name
    return numbers
