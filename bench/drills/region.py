"""The region that a drill is run in, as a drill knows it: who is well, what may be done, and how it is undone."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.drills.holdings import Holdings
from bench.drills.kinds import DrillKind, PartitionShape
from bench.target import Trunk

# Tenant, call, turn.
Turn = tuple[str, str, int]
# The verdict on a chain that is as it should be.
WHOLE = "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHealth:
    """A node as it is now; `troubles` empty: it serves, and every worker has a sibling that stands by."""

    node: str
    troubles: tuple[str, ...]
    running_calls: int = 0
    capacity: int = 0
    workers: int = 0

    @property
    def is_healthy(self) -> bool:
        return not self.troubles


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningCall:
    """A call on a node: `call_id` is the node's, `worker` the process that has it."""

    call_id: str
    worker: int
    # When its slot was taken.
    taken_at: dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Blow:
    """What is done in one round. `node` is "" where it is the hub's; `call_id` (the node's) says whose worker is meant.

    `ends_after_s`: where something is taken away, it comes back by itself then, even if nobody undoes it.
    """

    kind: DrillKind
    node: str
    call_id: str = ""
    shape: PartitionShape | None = None
    ends_after_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """What a blow hit: when (the earliest that it can have been), what, and which calls a worker had."""

    at: dt.datetime
    what: str
    call_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """An audit chain: of a tenant on a node, or the hub's. `was_asked` False: its place did not answer."""

    place: str
    name: str
    verdict: str
    entries: int = 0
    detail: str = ""
    was_asked: bool = True

    @property
    def is_whole(self) -> bool:
        return self.was_asked and self.verdict == WHOLE


class WatchedRegion(Protocol):
    """What a drill asks."""

    async def health(self) -> tuple[NodeHealth, ...]:
        """Every node, as it is now; one that does not answer is in trouble."""

    async def hub_troubles(self) -> Sequence[str]:
        """What keeps the hub from serving; nothing where there is none."""

    async def possible(self) -> frozenset[DrillKind]:
        """What its machines allow to be done to it. Raises DrillHandError."""

    async def running_calls(self, node: str) -> tuple[RunningCall, ...]:
        """The calls that a node has now. Raises DrillHandError."""

    async def turns(self, node: str) -> frozenset[Turn]:
        """Every committed turn in the records of a node. Raises DrillHandError."""

    async def held(self, node: str) -> Holdings:
        """What the services of a node hold now. Raises DrillHandError."""

    async def chains(self) -> tuple[Chain, ...]:
        """Every audit chain of every node and of the hub, verified; one that cannot be asked says so."""

    async def address_holder(self) -> str | None:
        """The node that the region's address is on; None where there is no such address, or nobody has it."""


class StruckRegion(Protocol):
    """What a drill does."""

    async def strike(self, blow: Blow) -> Struck:
        """Do it. Raises DrillHandError."""

    async def undo(self, blow: Blow) -> None:
        """Put everything back; may be called twice, and where nothing was done. Raises DrillHandError."""


class DrillRegion(WatchedRegion, StruckRegion, Protocol):
    """A region that drills are run in."""

    @property
    def name(self) -> str:
        """The region's."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Their names."""

    @property
    def is_rehearsal(self) -> bool:
        """Whether nobody but us calls it: one machine for trying things out."""

    @property
    def trunk(self) -> Trunk:
        """How it is called."""

    @property
    def doors(self) -> Sequence[tuple[str, int]]:
        """Where its calls are taken; a carrier tries them in this order."""

    @property
    def tenants(self) -> Path:
        """The documents of those whom it answers for."""
