"""The health message of this node: versions, capacity, alarms, ages. Built from what is known; asks nobody."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata

from contract.names import is_release
from contract.uplink_pb2 import Health, KnowledgeVersion
from edge.sync.alarms import Alarms
from edge.sync.beats import BeatWatch
from edge.sync.cordon import Cordon
from edge.sync.knowledge import KnowledgeSync
from edge.sync.metrics import SyncMetrics
from edge.sync.rollout import Rollout
from edge.sync.settings import NodeSection
from edge.sync.slots import SlotWatch

_MS = 1000
_UINT32_MAX = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """Where the parts of a health message come from."""

    node: NodeSection
    slots: SlotWatch
    cordon: Cordon
    rollout: Rollout
    knowledge: KnowledgeSync
    config_beats: BeatWatch
    node_alarms: Alarms
    metrics: SyncMetrics
    rollups_waiting: Callable[[], int]
    border_refusals: Callable[[], int]

    def message(self) -> Health:
        """How the node is now."""
        versions = sorted(self.knowledge.versions.values(), key=lambda version: version.tenant)
        self.metrics.bundle_version.set(self.rollout.running)
        for version in versions:
            self.metrics.knowledge_version.labels(tenant=version.tenant).set(version.version)
        return Health(
            region=self.node.region,
            node=self.node.name,
            at_ms=round(time.time() * _MS),
            release=release_told(metadata.version("borough")),
            bundle_version=self.rollout.running,
            knowledge=[
                KnowledgeVersion(
                    tenant=version.tenant,
                    version=version.version,
                    created_at_ms=version.created_at_ms,
                    items=version.items,
                )
                for version in versions
            ],
            capacity=self.slots.now(),
            alarms=self.node_alarms.raised(),
            rollups_waiting=self.rollups_waiting(),
            config_beat_age_ms=_age_ms(self.config_beats),
            knowledge_beat_age_ms=_age_ms(self.knowledge.beats),
            border_refusals=self.border_refusals(),
            is_cordoned=self.cordon.is_up,
        )


def release_told(version: str) -> str:
    """A version without its local part (`+g1a2b3c`): a commit's digits are text that the border does not let pass.

    Empty for what names no release: a node that was built by hand is heard all the same.
    """
    public = version.partition("+")[0]
    return public if is_release(public) else ""


def _age_ms(beats: BeatWatch) -> int:
    return min(round(beats.age_s() * _MS), _UINT32_MAX)
