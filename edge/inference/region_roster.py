"""Who belongs to this region, as far as inference must know: read from the roster that the hub signs into bundles.

The file is replaced as a whole, by a rename, when the hub sends another; it is looked at whenever somebody asks, which
costs a stat(2). A roster that cannot be read leaves the last good one in force; without any, nobody is a sibling.
"""

from dataclasses import dataclass, field
from pathlib import Path

import structlog
from google.protobuf import json_format

from contract.downlink_pb2 import NODE_STATE_ACTIVE, NODE_STATE_CORDONED, Roster

log = structlog.get_logger(__name__)

# Roles of certificates (provisioning/identity): who asks, and who answers.
ASKING = "calls"
ANSWERING = "inference"
# One that drains is about to go.
_SERVING = frozenset({NODE_STATE_ACTIVE, NODE_STATE_CORDONED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """A node whose inference may be asked."""

    name: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """`siblings` may be asked; `askers` maps the valid certificates' URIs to node and pin (SHA-256 of the key, hex)."""

    siblings: frozenset[Sibling] = frozenset()
    askers: dict[str, tuple[str, str]] = field(default_factory=dict)


class RegionRoster:
    """The other nodes of `region`, as the file says now."""

    def __init__(self, path: Path, *, region: str, node: str) -> None:
        self._path = path
        self._region = region
        self._node = node
        self._members = Members()
        # Device, inode, time and size of what was read last; none at first, all zero: the file was missing.
        self._seen: tuple[int, ...] = ()

    def members(self) -> Members:
        """As of now."""
        seen = self._stat()
        if seen != self._seen:
            self._seen = seen
            try:
                self._members = members_of(self._path.read_text(encoding="utf-8"), self._region, self._node)
            except (OSError, ValueError) as error:
                log.warning("roster_unusable", roster=str(self._path), reason=str(error))
        return self._members

    def _stat(self) -> tuple[int, ...]:
        try:
            found = self._path.stat()
        except OSError:
            return (0, 0, 0, 0)
        return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)


def members_of(text: str, region: str, node: str) -> Members:
    """Raises ValueError for what is no roster of this region."""
    try:
        roster = json_format.Parse(text, Roster(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise ValueError(f"it cannot be read: {error}") from error
    if roster.region != region:
        raise ValueError(f"it is of region {roster.region!r}, this node is in {region}")
    others = [other for other in roster.nodes if other.name != node]
    return Members(
        siblings=frozenset(
            Sibling(name=other.name, address=other.address)
            for other in others
            if other.address and other.state in _SERVING and any(one.role == ANSWERING for one in other.identities)
        ),
        askers={
            uri: (other.name, pin)
            for other in others
            for identity in other.identities
            if identity.role == ASKING
            for uri, pin in zip(identity.uris, identity.pins, strict=False)
            if uri.startswith(f"borough://{region}/{other.name}/{ASKING}/")
        },
    )
