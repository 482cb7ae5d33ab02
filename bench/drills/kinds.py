"""What can be drilled, what each kind needs and what it promises. Pure.

`held_s` is how long the thing is kept away; 0: it is killed, and whoever supervises it brings it back.
`weight` is how often a kind comes in a drill of many kinds: the shorter its rounds, the more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class DrillKind(StrEnum):
    """What is taken away."""

    WORKER = "worker"
    INFERENCE = "inference"
    NODE = "node"
    ASTERISK = "asterisk"
    FRONT_DOOR = "front-door"
    PARTITION = "partition"
    HUB = "hub"
    DISK_FULL = "disk-full"


# A drill of many kinds, drawn one by one.
RANDOM = "random"


class PartitionShape(StrEnum):
    """Who hears whom no longer; a trunk's audio goes on in all of them."""

    ALONE = "alone"
    FRONT_DOOR = "front-door"
    NATS = "nats"
    ONE_WAY = "one-way"


class Victim(StrEnum):
    """What a blow is aimed at."""

    CALL = "call"  # the node, or the worker, that has a call
    ADDRESS_HOLDER = "address holder"  # the node that the region's address is on
    HUB = "hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What a drill of this kind is held against; None: nothing is promised. Milliseconds are P95 of all rounds."""

    calls_lost: int | None = 0
    silence_ms: int | None = None
    extra_response_ms: int | None = None
    rto_ms: int | None = None
    turns_lost: int = 0
    resumed_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KindSpec:
    """One kind. `takes_node`: callers of the region have a node less while it lasts."""

    what: str
    victim: Victim
    takes_node: bool
    promise: Promise
    weight: int
    held_s: float = 0.0
    # Words that a caller says meanwhile may reach nobody, and are said again.
    loses_words: bool = False
    probe_every_s: float = 1.0
    back_within_s: float = 180.0


SPECS: Mapping[DrillKind, KindSpec] = {
    DrillKind.WORKER: KindSpec(
        what="kill -9 of the call worker that has a call",
        victim=Victim.CALL,
        takes_node=False,
        weight=8,
        loses_words=True,
        probe_every_s=3.0,
        promise=Promise(silence_ms=2000),
    ),
    DrillKind.INFERENCE: KindSpec(
        what="kill -9 of the inference service of a node that has a call",
        victim=Victim.CALL,
        takes_node=True,
        weight=6,
        probe_every_s=3.0,
        promise=Promise(extra_response_ms=1500),
    ),
    DrillKind.NODE: KindSpec(
        what="the power of a node that has a call is cut, and comes back",
        victim=Victim.CALL,
        takes_node=True,
        weight=2,
        held_s=30.0,
        probe_every_s=0.5,
        back_within_s=420.0,
        promise=Promise(calls_lost=None, rto_ms=3000, resumed_share=1.0),
    ),
    DrillKind.ASTERISK: KindSpec(
        what="kill -9 of the Asterisk of a node that has a call",
        victim=Victim.CALL,
        takes_node=True,
        weight=4,
        probe_every_s=0.5,
        promise=Promise(calls_lost=None, rto_ms=3000, resumed_share=1.0),
    ),
    DrillKind.FRONT_DOOR: KindSpec(
        what="kill -9 of the SIP front door on the node that has the region's address",
        victim=Victim.ADDRESS_HOLDER,
        takes_node=True,
        weight=5,
        probe_every_s=0.5,
        promise=Promise(rto_ms=3000),
    ),
    DrillKind.PARTITION: KindSpec(
        what="a node is cut off from its siblings",
        victim=Victim.CALL,
        takes_node=True,
        weight=3,
        held_s=40.0,
        probe_every_s=1.0,
        promise=Promise(rto_ms=3000),
    ),
    DrillKind.HUB: KindSpec(
        what="the hub is dead, and comes back",
        victim=Victim.HUB,
        takes_node=False,
        weight=2,
        held_s=45.0,
        promise=Promise(rto_ms=3000),
    ),
    DrillKind.DISK_FULL: KindSpec(
        what="the disk of a node that has a call has no room left",
        victim=Victim.CALL,
        takes_node=True,
        weight=2,
        held_s=30.0,
        promise=Promise(rto_ms=3000),
    ),
}
