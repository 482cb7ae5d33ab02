"""Who may say and hear what: the residency border, as data. Pure.

Theory. A region's words are in its REGION account, which is bound to nothing outside. Its BORDER account holds only
what may cross; the leaf link is bound to it. At the hub every region's links end in an account of their own,
LINK_<region>, behind a wall: only the imports below lead from there into CENTRAL. The wall is needed beside the
permissions: what a forged leaf sends to `$JS.ACK.>`, `_R_.>` or `_GR_.>` passes the permission check of nats-server
2.15 (leafMsgAllowed in leafnode.go), and `$MQTT.>` passes an allow-list; in LINK_<region> none of it means anything.

What no server refuses is witnessed: the hub's services hear a copy of it under `witness.<region>.`, judge it, count
what is none of ours, and keep nothing (controlplane/fleet/witness.py). No stream of the hub stores that subject.

What goes up, refused at each step if it is anything else:

    border user -> BORDER (its node's subjects only) -> leaf user at the hub (the same list) -> wall -> CENTRAL

Users are certificates. A leaf belongs to one node and may speak only for this node.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from contract.streams import MIRROR_REPLIES, MirrorSpec, mirrors
from contract.subjects import (
    HUB_REPLICA_BUCKET,
    LOCK_BUCKET,
    PASSED_BY_SERVER,
    RECENT_CALLERS_BUCKET,
    SESSIONS,
    SESSIONS_BUCKET,
    STREAM_CHANGES,
    WITNESS,
    ack,
    health,
    inbox,
    inboxes,
    key_value_stream,
    key_value_subject,
    object_stream,
    ping,
    rollup,
)
from provisioning.nats.topology import Node

# Never crosses, whatever the lists above say: JetStream's and the servers' own subjects, and replies to others.
_NEVER_UP = (
    "$JS.API.>",
    "$JS.ACK.>",
    "$JS.EVENT.>",
    "$KV.>",
    "$O.>",
    "$SYS.>",
    "$MQTT.>",
    "_R_.>",
    "_GR_.>",
    "down.>",
    "mirror.>",
)
# Never comes down: a hub gone bad must not read or command a region's JetStream.
_NEVER_DOWN = ("$JS.API.>", "$KV.>", "$O.>", "$SYS.>", "$MQTT.>")
# Key-value, in a region and never beyond; the node agent makes them.
_REGION_BUCKETS = (LOCK_BUCKET, RECENT_CALLERS_BUCKET, SESSIONS_BUCKET)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """Allow-lists of one user; `deny` wins."""

    publish: Sequence[str]
    subscribe: Sequence[str]
    publish_deny: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One opening in the wall between a region's link and CENTRAL."""

    # "service": from the link into CENTRAL, with a reply; "stream": the other way.
    kind: str
    subject: str
    # What the link's side calls it, where that is not the same.
    local: str = ""


def _up(region: str, node: str) -> list[str]:
    return [make(region, node) for make in (rollup, ack, health, ping)]


def leaf(node: Node) -> Permissions:
    """The hub's user for the link of one node: it may publish only as this node."""
    specs = mirrors(node.region)
    return Permissions(
        publish=[
            *_up(node.region, node.name),
            *(spec.reset_subject for spec in specs),
            *(spec.flow_control_subject for spec in specs),
        ],
        # An allow-list alone does not stop it.
        publish_deny=["$MQTT.>"],
        subscribe=[inboxes(node.region), MIRROR_REPLIES, *(spec.deliver_subject for spec in specs)],
    )


def wall(region: str) -> list[Opening]:
    """All that leads from a region's links into CENTRAL, and back."""
    openings = [Opening(kind="service", subject=subject) for subject in _up(region, "*")]
    for spec in mirrors(region):
        openings += [
            Opening(kind="service", subject=spec.hub_reset_subject, local=spec.reset_subject),
            Opening(kind="service", subject=spec.flow_control_subject),
            Opening(kind="stream", subject=spec.deliver_subject),
        ]
    return openings


def witnessed(region: str) -> list[str]:
    """What may come out of a region's links unrefused: the hub's services hear a copy of it."""
    specs = mirrors(region)
    return [
        *PASSED_BY_SERVER,
        *_up(region, "*"),
        *(spec.reset_subject for spec in specs),
        *(spec.flow_control_subject for spec in specs),
    ]


def border(node: Node) -> Permissions:
    """The node agent's connection to the border."""
    specs = mirrors(node.region)
    own = [f"$JS.{what}.{spec.name}.{spec.consumer}.>" for spec in specs for what in ("ACK", "FC")]
    return Permissions(
        # Only the mirror itself answers the hub.
        publish_deny=own,
        publish=[
            *_up(node.region, node.name),
            *(spec.reset_subject for spec in specs),
            *(subject for spec in specs for subject in _stream_api(spec)),
            "$JS.API.INFO",
            "$JS.API.STREAM.NAMES",
        ],
        subscribe=[f"{inbox(node.region, node.name)}.>", *STREAM_CHANGES],
    )


def _stream_api(spec: MirrorSpec) -> list[str]:
    return [f"$JS.API.STREAM.{verb}.{spec.name}" for verb in ("CREATE", "UPDATE", "DELETE", "PURGE")] + _reading(
        spec.name
    )


def _reading(stream: str) -> list[str]:
    """The JetStream API for reading a stream with consumers of one's own."""
    return [
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.STREAM.MSG.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.DIRECT.GET.{stream}.>",
        f"$JS.API.CONSUMER.CREATE.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}.>",
        f"$JS.API.CONSUMER.DURABLE.CREATE.{stream}.*",
        f"$JS.API.CONSUMER.INFO.{stream}.*",
        f"$JS.API.CONSUMER.DELETE.{stream}.*",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.*",
        f"$JS.ACK.{stream}.>",
        f"$JS.FC.{stream}.>",
    ]


def _object_store(bucket: str) -> list[str]:
    stream = object_stream(bucket)
    verbs = ("CREATE", "UPDATE", "PURGE", "MSG.DELETE")
    return [f"$O.{bucket}.>", *(f"$JS.API.STREAM.{verb}.{stream}" for verb in verbs), *_reading(stream)]


def node_litestream() -> Permissions:
    """Fills and reads the object stores of its region, one a database, which the node agent makes; a wildcard cannot
    match a part of a token, so these are all of them. What it reads of a sibling is sealed."""
    return Permissions(
        publish=[
            "$O.>",
            *(f"$JS.API.STREAM.{verb}.*" for verb in ("INFO", "PURGE", "MSG.GET")),
            "$JS.API.STREAM.NAMES",
            "$JS.API.DIRECT.GET.>",
            "$JS.API.CONSUMER.CREATE.>",
            "$JS.API.CONSUMER.DELETE.>",
            "$JS.API.INFO",
            "$JS.FC.>",
        ],
        subscribe=["_INBOX.>"],
    )


def hub_litestream() -> Permissions:
    """Writes and reads the replica of the hub's database."""
    return Permissions(
        publish=[*_object_store(HUB_REPLICA_BUCKET), "$JS.API.INFO", "$JS.API.STREAM.NAMES"], subscribe=["_INBOX.>"]
    )


def controlplane() -> Permissions:
    """The hub's services. What they may hear leaves out the inside of mirrors (`$JS.FC.>`, `$JS.API.>`)."""
    return Permissions(
        publish=["$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "$KV.>", "$O.>", "_INBOX.>", "_R_.>", "down.>"],
        subscribe=["up.>", "_INBOX.>", f"{WITNESS}.>"],
    )


def agent() -> Permissions:
    """The node agent, and the replication service, inside their region: the buckets of the region and their streams.

    The name of a stream is one token, so any may be made: who makes one that is none of ours is seen by every agent of
    the region (edge/sync/stream_watch.py).
    """
    return Permissions(
        publish=[
            *(key_value_subject(bucket, ">") for bucket in _REGION_BUCKETS),
            "$O.>",
            *(f"$JS.API.STREAM.{verb}.*" for verb in ("CREATE", "INFO", "PURGE", "DELETE", "MSG.GET")),
            "$JS.API.STREAM.NAMES",
            "$JS.API.STREAM.LIST",
            "$JS.API.DIRECT.GET.>",
            *(f"$JS.API.CONSUMER.{verb}.>" for verb in ("CREATE", "INFO", "DELETE", "MSG.NEXT")),
            "$JS.API.INFO",
            "$JS.ACK.>",
            "$JS.FC.>",
        ],
        subscribe=["_INBOX.>", *STREAM_CHANGES],
    )


def calls() -> Permissions:
    """A call worker writes and reads where calls stand, and talks with other workers about it; whatever else it says is
    refused and counted. It makes and changes no stream."""
    stream = key_value_stream(SESSIONS_BUCKET)
    return Permissions(
        publish=[
            SESSIONS,
            key_value_subject(SESSIONS_BUCKET, ">"),
            f"$JS.API.DIRECT.GET.{stream}",
            f"$JS.API.DIRECT.GET.{stream}.>",
            f"$JS.API.STREAM.MSG.GET.{stream}",
        ],
        subscribe=["_INBOX.>", SESSIONS],
    )


def system() -> Permissions:
    """Asks servers how they are, and closes a link that stands still."""
    return Permissions(
        publish=["$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.*", "$SYS.REQ.SERVER.*.*"], subscribe=["_INBOX.>"]
    )


def region_system() -> Permissions:
    """As `system`, and has JetStream forget servers that left the region."""
    asks = system()
    return Permissions(publish=[*asks.publish, "$JS.API.SERVER.REMOVE"], subscribe=asks.subscribe)


def denied_exports(region: str) -> list[str]:
    """What a region's server never sends over its link."""
    return [*_NEVER_UP, f"$JS.{region}.>"]


def denied_imports(region: str) -> list[str]:
    """What a region's server never takes from its link."""
    return [*_NEVER_DOWN, f"$JS.{region}.>"]


class Border:
    """The border as it is meant. The leak battery opens it on purpose, to prove that it would see a leak, and listens
    at the hub with more than the hub's services may."""

    has_wall = True

    def witnessed(self, region: str) -> list[str]:
        return witnessed(region)

    def controlplane(self) -> Permissions:
        return controlplane()

    def hub_system(self) -> Permissions:
        return system()

    def leaf(self, node: Node) -> Permissions:
        return leaf(node)

    def border(self, node: Node) -> Permissions:
        return border(node)

    def denied_exports(self, region: str) -> list[str]:
        return denied_exports(region)

    def denied_imports(self, region: str) -> list[str]:
        return denied_imports(region)


STRICT = Border()
