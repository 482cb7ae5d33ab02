"""Every JetStream stream that crosses the border, as data: what the hub creates, and what a region mirrors of it.

A mirror does not choose what it is sent. The hub makes one durable consumer for it, with a fixed deliver subject, and
all that the region may ask of the hub's JetStream is to start that consumer again (`reset_subject`); so no request of a
region can carry a name, a description or a subject of its own making to the hub.

A mirror that is made anew begins where the hub believes the old one ended. Whoever makes one asks for
`FROM_THE_BEGINNING` at `reset_subject` first, else it stays without its past.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from contract.subjects import (
    ROLLUP_STREAM,
    ROLLUP_SUBJECTS,
    STATE_STREAM,
    STATE_SUBJECTS,
    config_stream,
    config_subjects,
    knowledge_stream,
    knowledge_subjects,
    object_stream,
    object_subjects,
    snapshot_bucket,
)

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
DAY_S = 86_400

# A bundle and a delta must each fit into one message; both servers of a link are set to it.
MAX_PAYLOAD_BYTES = 8 * MIB
# What goes up is counts: a rollup of 50 tenants, 10 intents each, is about 100 KiB.
MAX_UP_BYTES = 512 * KIB
# JetStream accepts no other heartbeat where flow control acknowledges.
MIRROR_HEARTBEAT_S = 1
MIRROR_MAX_ACK_PENDING = 1_000
# Payload for `MirrorSpec.reset_subject`.
FROM_THE_BEGINNING = b'{"seq":1}'

Json = dict[str, object]
Discard = Literal["old", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a stream keeps; None is no limit."""

    max_bytes: int
    max_age_s: float | None = None
    max_messages_per_subject: int | None = None
    max_message_bytes: int | None = None
    # What gives way when `max_bytes` is reached: the oldest message, or the publisher, who keeps it and tries again.
    discard: Discard = "old"

    def request(self) -> Json:
        return {
            "storage": "file",
            "retention": "limits",
            "discard": self.discard,
            "max_bytes": self.max_bytes,
            "max_age": int((self.max_age_s or 0) * 1e9),
            "max_msgs_per_subject": self.max_messages_per_subject or -1,
            "max_msg_size": self.max_message_bytes or -1,
            # A reader of one subject asks any replica.
            "allow_direct": True,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSpec:
    """A stream at the hub."""

    name: str
    subjects: Sequence[str]
    limits: Limits
    # Object stores replace their directory entries by it.
    allows_rollup_header: bool = False

    @property
    def create_subject(self) -> str:
        return f"$JS.API.STREAM.CREATE.{self.name}"

    @property
    def update_subject(self) -> str:
        return f"$JS.API.STREAM.UPDATE.{self.name}"

    def request(self, replicas: int = 1) -> Json:
        """Body of a create or update request. Idempotent: creating an equal stream again is no error."""
        return {
            "name": self.name,
            "subjects": list(self.subjects),
            "num_replicas": replicas,
            "allow_rollup_hdrs": self.allows_rollup_header,
            **self.limits.request(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSpec:
    """A region's mirror of a hub stream of the same name, and the hub's consumer that feeds it."""

    region: str
    name: str
    channel: str
    limits: Limits

    @property
    def consumer(self) -> str:
        """Name of the durable consumer at the hub."""
        return f"mirror-{self.region}"

    @property
    def deliver_subject(self) -> str:
        """Where the hub sends the stream; only this region's links may listen there."""
        return f"mirror.{self.region}.{self.channel}"

    @property
    def reset_subject(self) -> str:
        """Asked from the region: starts the consumer again, at the sequence in the body or where it was."""
        return f"{self.api_prefix}.CONSUMER.RESET.{self.name}.{self.consumer}"

    @property
    def hub_reset_subject(self) -> str:
        """What the hub's wall turns `reset_subject` into."""
        return f"$JS.API.CONSUMER.RESET.{self.name}.{self.consumer}"

    @property
    def api_prefix(self) -> str:
        """Stands for `$JS.API` of the hub on a region's side of the wall."""
        return f"link.{self.region}.api"

    @property
    def flow_control_subject(self) -> str:
        """Where the mirror acknowledges."""
        return f"$JS.FC.{self.name}.{self.consumer}.*"

    @property
    def consumer_create_subject(self) -> str:
        """Asked at the hub, by the hub."""
        return f"$JS.API.CONSUMER.CREATE.{self.name}.{self.consumer}"

    def consumer_request(self) -> Json:
        """Body of the request for the hub's consumer. Idempotent."""
        return {
            "stream_name": self.name,
            "config": {
                "name": self.consumer,
                "durable_name": self.consumer,
                "deliver_subject": self.deliver_subject,
                "deliver_policy": "all",
                "ack_policy": "flow_control",
                "flow_control": True,
                "idle_heartbeat": int(MIRROR_HEARTBEAT_S * 1e9),
                "max_ack_pending": MIRROR_MAX_ACK_PENDING,
            },
        }

    @property
    def create_subject(self) -> str:
        """Asked in the region's BORDER account."""
        return f"$JS.API.STREAM.CREATE.{self.name}"

    @property
    def delete_subject(self) -> str:
        return f"$JS.API.STREAM.DELETE.{self.name}"

    @property
    def info_subject(self) -> str:
        return f"$JS.API.STREAM.INFO.{self.name}"

    def is_nearly_full(self, held_bytes: int) -> bool:
        """Whether a mirror of this size should be made anew: it then holds what the hub holds."""
        return held_bytes > NEARLY_FULL * self.limits.max_bytes

    @property
    def update_subject(self) -> str:
        return f"$JS.API.STREAM.UPDATE.{self.name}"

    def request(self, replicas: int = 1) -> Json:
        """Body of the request for the mirror in the region. Idempotent."""
        return {
            "name": self.name,
            "num_replicas": replicas,
            "mirror": {
                "name": self.name,
                "external": {"api": self.api_prefix, "deliver": ""},
                "consumer": {"name": self.consumer, "deliver_subject": self.deliver_subject},
            },
            **self.limits.request(),
        }


_CONFIG = Limits(max_bytes=512 * MIB, max_messages_per_subject=8, max_message_bytes=MAX_PAYLOAD_BYTES)
# What a tenant may hold of a region's streams, so that none takes another's room: the hub sends a snapshot in place of
# a delta that would take more, and deletes what came before a snapshot. It keeps two snapshots and sends a third.
KNOWLEDGE_MESSAGES_A_TENANT = 500
KNOWLEDGE_BYTES_A_TENANT = 64 * MIB
SNAPSHOT_BYTES_A_TENANT = 512 * MIB
# Should they be full all the same, the hub refuses what is new: nothing that is there is lost, no half of an older
# snapshot is left.
_KNOWLEDGE = Limits(
    max_bytes=4 * GIB,
    max_messages_per_subject=KNOWLEDGE_MESSAGES_A_TENANT,
    max_message_bytes=MAX_PAYLOAD_BYTES,
    discard="new",
)
_SNAPSHOTS = Limits(max_bytes=16 * GIB, discard="new")
# What is deleted at the hub stays in a mirror: it takes twice as much, and is made anew before the oldest gives way
# (`MirrorSpec.is_nearly_full`).
_KNOWLEDGE_MIRROR = replace(_KNOWLEDGE, max_bytes=2 * _KNOWLEDGE.max_bytes, discard="old")
_SNAPSHOTS_MIRROR = Limits(max_bytes=2 * _SNAPSHOTS.max_bytes)
NEARLY_FULL = 0.9

ROLLUPS = StreamSpec(
    name=ROLLUP_STREAM,
    subjects=ROLLUP_SUBJECTS,
    # Full: nodes keep their rollups, nothing is lost. The age allows a hub restored from a week-old backup to count
    # again.
    limits=Limits(max_bytes=8 * GIB, max_age_s=7 * DAY_S, max_message_bytes=MAX_UP_BYTES, discard="new"),
)
STATES = StreamSpec(
    name=STATE_STREAM,
    subjects=STATE_SUBJECTS,
    limits=Limits(max_bytes=1 * GIB, max_age_s=1 * DAY_S, max_messages_per_subject=64, max_message_bytes=MAX_UP_BYTES),
)


def config(region: str) -> StreamSpec:
    """Bundles of a region, and the beat that proves the stream flows."""
    return StreamSpec(name=config_stream(region), subjects=config_subjects(region), limits=_CONFIG)


def knowledge(region: str) -> StreamSpec:
    """Knowledge manifests and deltas of a region's tenants, and the beat."""
    return StreamSpec(name=knowledge_stream(region), subjects=knowledge_subjects(region), limits=_KNOWLEDGE)


def snapshots(region: str) -> StreamSpec:
    """The object store of knowledge snapshots for a region (ADR-20)."""
    bucket = snapshot_bucket(region)
    return StreamSpec(
        name=object_stream(bucket),
        subjects=object_subjects(bucket),
        limits=_SNAPSHOTS,
        allows_rollup_header=True,
    )


def hub_streams(regions: Iterable[str]) -> list[StreamSpec]:
    """All streams the hub creates."""
    return [
        ROLLUPS,
        STATES,
        *(spec for region in regions for spec in (config(region), knowledge(region), snapshots(region))),
    ]


def mirrors(region: str) -> list[MirrorSpec]:
    """The mirrors of a region; the hub makes the consumer of each, the region the mirror."""
    return [
        MirrorSpec(region=region, name=config_stream(region), channel="config", limits=_CONFIG),
        MirrorSpec(region=region, name=knowledge_stream(region), channel="knowledge", limits=_KNOWLEDGE_MIRROR),
        MirrorSpec(
            region=region,
            name=object_stream(snapshot_bucket(region)),
            channel="snapshots",
            limits=_SNAPSHOTS_MIRROR,
        ),
    ]


# Replies to a mirror's request at the hub; its server makes them up.
MIRROR_REPLIES = "$JSC.R.*"
