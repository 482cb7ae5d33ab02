"""What the roster in a bundle leaves in the bundle's folder: itself, and whether this node is taken out of rotation.

A node that the roster does not name takes calls: a hub that was restored from an older state must not silence a region.
Pure.
"""

from collections.abc import Iterator

from google.protobuf.json_format import MessageToJson

from contract.downlink_pb2 import NODE_STATE_CORDONED, NODE_STATE_DRAINING, NODE_STATE_REMOVED, NodeState, Roster

ROSTER_FILE = "roster.json"
CORDONED_FILE = "cordoned"
OUT_OF_ROTATION = frozenset({NODE_STATE_CORDONED, NODE_STATE_DRAINING, NODE_STATE_REMOVED})
_PREFIX = "NODE_STATE_"


def roster_files(roster: Roster | None, node: str) -> Iterator[tuple[str, bytes]]:
    """Names and contents, nothing without a roster. What servers and workers of the node read."""
    if roster is None:
        return
    yield ROSTER_FILE, MessageToJson(roster, preserving_proto_field_name=True).encode() + b"\n"
    for own in roster.nodes:
        if own.name == node and own.state in OUT_OF_ROTATION:
            yield CORDONED_FILE, f"{NodeState.Name(own.state).removeprefix(_PREFIX).lower()}\n".encode()
