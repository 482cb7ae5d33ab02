"""The newest of what every node says: health and acks. Pure: messages and times in, states out.

What is newest is told by the hub's stream. A node whose clock is wrong is heard like any other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from contract.uplink_pb2 import REFUSAL_UNSPECIFIED, SUBJECT_BUNDLE, Ack, Health

SILENT_PERIODS = 3
# A node unheard for so long was taken down. The stream of states keeps messages as long.
FORGOTTEN_AFTER_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a region should run: the bundle's version, and the knowledge version of each of its tenants."""

    bundle_version: int
    knowledge: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """One node. `age_ms` is since its last health message; `refused` is a refusal of what is still wanted."""

    region: str
    node: str
    health: Health
    age_ms: int
    is_silent: bool
    is_drifted: bool
    refused: Ack | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _HeardAck:
    ack: Ack
    heard_at_ms: int


@dataclass(slots=True, kw_only=True)
class _Node:
    health: Health | None = None
    heard_at_ms: int = 0
    acks: dict[tuple[int, str], _HeardAck] = field(default_factory=dict)

    @property
    def last_heard_at_ms(self) -> int:
        return max(self.heard_at_ms, *(heard.heard_at_ms for heard in self.acks.values()), 0)


class FleetStates:
    """Keeps the newest messages of every node."""

    def __init__(self, *, health_period_s: float) -> None:
        self._silent_after_ms = round(SILENT_PERIODS * health_period_s * 1000)
        self._nodes: dict[tuple[str, str], _Node] = {}

    def take_health(self, health: Health, *, heard_at_ms: int) -> None:
        """A node's health, and when the stream took it; an older one than is known changes nothing."""
        node = self._nodes.setdefault((health.region, health.node), _Node())
        if node.health is None or heard_at_ms >= node.heard_at_ms:
            node.health, node.heard_at_ms = health, heard_at_ms

    def take_ack(self, ack: Ack, *, heard_at_ms: int) -> None:
        """An ack or refusal, and when the stream took it; an older one than is known changes nothing."""
        node = self._nodes.setdefault((ack.region, ack.node), _Node())
        # An ack of a bundle may name the tenant whose document was refused: it is about the bundle all the same.
        about = (ack.subject, "" if ack.subject == SUBJECT_BUNDLE else ack.tenant)
        known = node.acks.get(about)
        if known is None or heard_at_ms >= known.heard_at_ms:
            node.acks[about] = _HeardAck(ack=ack, heard_at_ms=heard_at_ms)

    def nodes(self, region: str, wanted: Wanted, *, now_ms: int) -> list[NodeState]:
        """The nodes of a region by name, without those that were not heard for a day."""
        self._forget_unheard(now_ms)
        return [
            self._state(node, wanted, now_ms, name)
            for (of_region, name), node in sorted(self._nodes.items())
            if of_region == region
        ]

    def health(self, region: str, node: str, *, now_ms: int) -> Health | None:
        """The newest health of a node that is heard; None of one that is silent."""
        heard = self._nodes.get((region, node))
        if heard is None or heard.health is None or now_ms - heard.heard_at_ms > self._silent_after_ms:
            return None
        return heard.health

    def regions(self, *, now_ms: int) -> set[str]:
        """Regions that any node spoke for within a day."""
        self._forget_unheard(now_ms)
        return {region for region, _ in self._nodes}

    def _forget_unheard(self, now_ms: int) -> None:
        last_ms = now_ms - FORGOTTEN_AFTER_MS
        self._nodes = {name: node for name, node in self._nodes.items() if node.last_heard_at_ms >= last_ms}

    def _state(self, node: _Node, wanted: Wanted, now_ms: int, name: str) -> NodeState:
        acks = sorted(node.acks.values(), key=lambda heard: heard.heard_at_ms)
        region = node.health.region if node.health is not None else acks[0].ack.region
        since = [heard.ack for heard in acks if heard.heard_at_ms >= node.heard_at_ms]
        health = _as_acknowledged(node.health or Health(region=region, node=name), since)
        age_ms = max(0, now_ms - node.heard_at_ms)
        return NodeState(
            region=region,
            node=name,
            health=health,
            age_ms=age_ms,
            is_silent=age_ms > self._silent_after_ms,
            is_drifted=_is_drifted(health, wanted),
            refused=_refusal([heard.ack for heard in acks], health, wanted),
        )


def _as_acknowledged(health: Health, acks: list[Ack]) -> Health:
    """What a node runs, by its health and the acks heard since: health comes every few seconds, an ack at once.

    An ack that waited for the link is older than the health that overtook it, also by the node's own clock.
    """
    newest = Health()
    newest.CopyFrom(health)
    for ack in acks:
        if ack.refusal != REFUSAL_UNSPECIFIED or ack.at_ms < health.at_ms:
            continue
        if ack.subject == SUBJECT_BUNDLE:
            newest.bundle_version = ack.version
            continue
        known = next((one for one in newest.knowledge if one.tenant == ack.tenant), None)
        (known or newest.knowledge.add(tenant=ack.tenant)).version = ack.version
    return newest


def _is_drifted(health: Health, wanted: Wanted) -> bool:
    runs = {version.tenant: version.version for version in health.knowledge}
    return health.bundle_version != wanted.bundle_version or any(
        runs.get(tenant, 0) != version for tenant, version in wanted.knowledge.items()
    )


def _refusal(acks: list[Ack], health: Health, wanted: Wanted) -> Ack | None:
    """The newest refusal of what is still wanted; `acks` are in the order in which they were heard."""
    runs = {version.tenant: version.version for version in health.knowledge}
    newest = None
    for ack in acks:
        if ack.refusal == REFUSAL_UNSPECIFIED:
            continue
        is_bundle = ack.subject == SUBJECT_BUNDLE
        should = wanted.bundle_version if is_bundle else wanted.knowledge.get(ack.tenant, ack.version)
        is_running = (health.bundle_version if is_bundle else runs.get(ack.tenant, 0)) == should
        if ack.version >= should and not is_running:
            newest = ack
    return newest
