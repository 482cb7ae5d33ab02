"""Who may say and hear what: the residency border, as data. Pure.

Theory. A region's words are in its REGION account, which is bound to nothing outside. Its BORDER account holds only
what may cross; the leaf link is bound to it. At the hub every region's links end in an account of their own,
LINK_<region>, behind a wall: only the imports below lead from there into CENTRAL. The wall is needed beside the
permissions: what a forged leaf sends to `$JS.ACK.>` or `_R_.>` passes the permission check of nats-server 2.15
(leafMsgAllowed in leafnode.go), and `$MQTT.>` passes an allow-list; in LINK_<region> nobody listens there.

What goes up, refused at each step if it is anything else:

    border user -> BORDER (its node's subjects only) -> leaf user at the hub (the same list) -> wall -> CENTRAL

Users are certificates. A leaf belongs to one node and may speak only for this node.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from contract.streams import MIRROR_REPLIES, MirrorSpec, mirrors
from contract.subjects import (
    HUB_DOMAIN,
    HUB_REPLICA_BUCKET,
    ack,
    health,
    inbox,
    inboxes,
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
    "down.>",
    "mirror.>",
)
# Never comes down: a hub gone bad must not read or command a region's JetStream.
_NEVER_DOWN = ("$JS.API.>", "$KV.>", "$O.>", "$SYS.>", "$MQTT.>")


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


def link_account(region: str) -> str:
    """The hub's account in which the links of a region end."""
    return f"LINK_{region}"


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
        subscribe=[f"{inbox(node.region, node.name)}.>"],
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
        subscribe=["up.>", "_INBOX.>"],
    )


# Inside a region these lead nowhere; who tries them is counted all the same.
_TRIPWIRES = ("up.>", "down.>", "mirror.>", "link.>", f"$JS.{HUB_DOMAIN}.>")


def agent() -> Permissions:
    """The node agent inside its region."""
    return Permissions(publish=[">"], publish_deny=_TRIPWIRES, subscribe=[">"])


def calls() -> Permissions:
    """A call worker inside its region: it cannot destroy what others keep there."""
    return Permissions(
        publish=[">"],
        publish_deny=[
            *_TRIPWIRES,
            "$O.>",
            "$JS.API.STREAM.DELETE.>",
            "$JS.API.STREAM.PURGE.>",
            "$JS.API.STREAM.UPDATE.>",
        ],
        subscribe=[">"],
    )


def system() -> Permissions:
    """Asks servers how they are, and closes a link that stands still."""
    return Permissions(
        publish=["$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.*", "$SYS.REQ.SERVER.*.*"], subscribe=["_INBOX.>"]
    )


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
