"""The region of `borough up`: processes of this machine, ended and kept away as a machine's would be.

Services come back by their supervisor. Asterisk has none here and there is no front door, so those are left to real
machines; so are cuts of the network, which all nodes share.
"""

import asyncio
import datetime as dt
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from bench.drills import audit_on_node, held_on_node, on_node
from bench.drills.errors import DrillHandError, DrillImpossibleError
from bench.drills.holdings import Holdings, holdings_of
from bench.drills.kinds import DrillKind
from bench.drills.region import Blow, Chain, NodeHealth, RunningCall, Struck, Turn
from bench.target import Target, read_targets
from contract.errors import BoroughError
from provisioning.local.layout import StateLayout
from provisioning.local.services import LocalService, services, start_service, stop_service

BALLAST = "drill.ballast"
# So little that the node calls its disk full, and so much that this machine goes on.
LEFT_BYTES = 8 * 1024 * 1024
NEEDED_BY_CALLS = ("inference",)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRegion:
    """One region of this machine."""

    layout: StateLayout
    targets: tuple[Target, ...]

    @property
    def name(self) -> str:
        return self.targets[0].region

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(target.node for target in self.targets)

    @property
    def is_rehearsal(self) -> bool:
        return True

    @property
    def trunk(self) -> Target:
        return self.targets[0]

    @property
    def tenants(self) -> Path:
        return self.targets[0].tenants

    @property
    def doors(self) -> Sequence[tuple[str, int]]:
        return [target.sip for target in self.targets if target.sip is not None]

    async def possible(self) -> frozenset[DrillKind]:
        found = {DrillKind.WORKER, DrillKind.INFERENCE}
        found |= {DrillKind.NODE} if len(self.targets) > 1 else set()
        found |= {DrillKind.HUB} if self._of(self.layout.hub.root.name) else set()
        found |= {DrillKind.DISK_FULL} if all(_has_own_disk(target) for target in self.targets) else set()
        return frozenset(found)

    async def health(self) -> tuple[NodeHealth, ...]:
        return tuple([await asyncio.to_thread(self._health, target) for target in self.targets])

    async def hub_troubles(self) -> Sequence[str]:
        return [f"{service.name} is dead" for service in self._of(self.layout.hub.root.name) if service.pid is None]

    async def running_calls(self, node: str) -> tuple[RunningCall, ...]:
        held = await asyncio.to_thread(on_node.calls, self._settings(node))
        return tuple(
            RunningCall(
                call_id=call["call_id"],
                worker=call["worker"],
                taken_at=dt.datetime.fromtimestamp(call["taken_at"], dt.UTC),
            )
            for call in held
        )

    async def turns(self, node: str) -> frozenset[Turn]:
        return frozenset(await asyncio.to_thread(on_node.turns, self._settings(node)))

    async def held(self, node: str) -> Holdings:
        return holdings_of(await asyncio.to_thread(held_on_node.held, self._settings(node)))

    async def chains(self) -> tuple[Chain, ...]:
        places = [(node, self._settings(node), audit_on_node.node) for node in self.nodes]
        if (self.layout.hub.run / "hub.toml").exists():
            places.append((self.layout.hub.root.name, self.layout.hub.run, audit_on_node.hub))
        found = [await asyncio.to_thread(_chains, place, settings, walk) for place, settings, walk in places]
        return tuple(chain for chains in found for chain in chains)

    async def address_holder(self) -> str | None:
        return None

    async def strike(self, blow: Blow) -> Struck:
        match blow.kind:
            case DrillKind.WORKER:
                return self._kill_worker(blow)
            case DrillKind.INFERENCE:
                return self._kill(blow, NEEDED_BY_CALLS)
            case DrillKind.NODE:
                return self._take_away(blow.node)
            case DrillKind.HUB:
                return self._take_away(self.layout.hub.root.name)
            case DrillKind.DISK_FULL:
                return await asyncio.to_thread(self._fill, blow)
            case _:
                raise DrillImpossibleError(f"{blow.kind} cannot be run on one machine")

    async def undo(self, blow: Blow) -> None:
        match blow.kind:
            case DrillKind.NODE | DrillKind.HUB:
                for service in self._of(blow.node or self.layout.hub.root.name):
                    start_service(service)
            case DrillKind.DISK_FULL:
                self._ballast(blow.node).unlink(missing_ok=True)
            case _:
                pass

    def _health(self, target: Target) -> NodeHealth:
        figures = on_node.health(self._settings(target.node))
        dead = [f"{service.name} is dead" for service in self._of(target.node) if service.pid is None]
        return NodeHealth(
            node=target.node,
            troubles=(*figures["troubles"], *dead),
            running_calls=figures["running_calls"],
            capacity=figures["capacity"],
            workers=figures["workers"],
        )

    def _kill_worker(self, blow: Blow) -> Struck:
        killed = on_node.kill_worker(self._settings(blow.node), blow.call_id)
        if killed["worker"] is None:
            raise DrillHandError(f"{blow.node} has the call {blow.call_id} no longer")
        return Struck(
            at=dt.datetime.fromtimestamp(killed["at"], dt.UTC),
            what=f"worker {killed['worker']} of {blow.node}",
            call_ids=tuple(killed["call_ids"]),
        )

    def _kill(self, blow: Blow, names: Sequence[str]) -> Struck:
        at = dt.datetime.now(dt.UTC)
        for service in self._of(blow.node):
            if service.name in names and service.pid is not None:
                os.kill(service.pid, signal.SIGKILL)
        return Struck(at=at, what=f"{', '.join(names)} of {blow.node}")

    def _take_away(self, place: str) -> Struck:
        at = dt.datetime.now(dt.UTC)
        for service in self._of(place):
            stop_service(service, signal.SIGKILL)
        return Struck(at=at, what=place)

    def _fill(self, blow: Blow) -> Struck:
        ballast = self._ballast(blow.node)
        disk = os.statvfs(ballast.parent)
        size = disk.f_bavail * disk.f_frsize - LEFT_BYTES
        # It goes away even if we do not come back.
        later = [
            "sh",
            "-c",
            '(sleep "$1"; rm -f "$2") >/dev/null 2>&1 &',
            "drill",
            str(blow.ends_after_s),
            str(ballast),
        ]
        subprocess.run(later, start_new_session=True, check=True)
        at = dt.datetime.now(dt.UTC)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, size))
        return Struck(at=at, what=f"{size} bytes on the disk of {blow.node}")

    def _of(self, place: str) -> list[LocalService]:
        return [service for service in services(self.layout) if service.place == place]

    def _settings(self, node: str) -> Path:
        return self.layout.node(node).run

    def _ballast(self, node: str) -> Path:
        return next(target.records for target in self.targets if target.node == node) / BALLAST


def local_region(layout: StateLayout, name: str | None) -> LocalRegion:
    """The region of this name, or the first one. Raises RegionMissingError, DrillImpossibleError."""
    found = read_targets(layout)
    wanted = name or found[0].region
    targets = tuple(target for target in found if target.region == wanted)
    if not targets:
        raise DrillImpossibleError(f"no region {wanted} runs here; there are: {', '.join({t.region for t in found})}")
    return LocalRegion(layout=layout, targets=targets)


def _chains(place: str, settings: Path, walk: Callable[[Path], list[dict[str, Any]]]) -> list[Chain]:
    try:
        return [Chain(place=place, **one) for one in walk(settings)]
    except (BoroughError, OSError, ValueError, KeyError, apsw.Error) as error:
        return [Chain(place=place, name="", verdict="not asked", detail=str(error), was_asked=False)]


def _has_own_disk(target: Target) -> bool:
    """Whether filling its disk leaves the rest of this machine alone."""
    return target.records.exists() and target.records.stat().st_dev != Path("/").stat().st_dev
