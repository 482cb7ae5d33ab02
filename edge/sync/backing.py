"""Whose calls may be taken in another region than their own, as the applied bundle says, and what a caller is told
where a law forbids it.

The hub judges (controlplane/documents/backing.py) and tells both regions of a pair: the one that may run out of room,
and the one that could help. Nothing here guesses: a number that no backing names belongs to nobody else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from google.protobuf.json_format import MessageToJson, Parse, ParseError

from contract.downlink_pb2 import Backing, Backings

BACKINGS_FILE = "backings.json"
# Spoken before anything is answered or kept. It names the reason, and promises nothing.
REFUSED_ANNOUNCEMENT = (
    "We are sorry. The place that answers this number cannot take your call at the moment. "
    "Another place could, but the data protection rules that protect you do not allow your call to be handled there. "
    "Please call again later."
)


class Where(StrEnum):
    """Where a call may be taken."""

    HERE = "here"
    BACKUP = "backup"
    REFUSED = "refused"
    UNKNOWN = "unknown"  # no backing says anything about the number


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a call. `region` may take it if `where` is BACKUP; `rule` and `article` are of a refusal."""

    where: Where
    region: str = ""
    tenant: str = ""
    rule: str = ""
    article: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackingBook:
    """The backings that concern a region. An allowed number of another region needs nothing: its agent is served."""

    own_region: str = ""
    backings: tuple[Backing, ...] = ()

    @classmethod
    def read(cls, bundle: Path) -> Self:
        """Of the bundle in this folder; nothing where it has none."""
        try:
            found = Parse((bundle / BACKINGS_FILE).read_bytes(), Backings())
        except (OSError, ParseError):
            return cls()
        return cls(own_region=found.region, backings=tuple(found.backings))

    def of_incoming(self, called_number: str) -> Decision:
        """A call came to this region: is it of one that this region backs, and may it be taken?"""
        found = self._of(called_number, lambda backing: backing.backup == self.own_region)
        return _decided(found, Where.HERE)

    def of_overflow(self, called_number: str) -> Decision:
        """This region has no room for a call of its own: may another take it?"""
        found = self._of(called_number, lambda backing: backing.region == self.own_region)
        return _decided(found, Where.BACKUP)

    def _of(self, called_number: str, concerns: Callable[[Backing], bool]) -> Backing | None:
        digits = called_number.removeprefix("+")
        for backing in self.backings:
            if concerns(backing) and digits in {number.removeprefix("+") for number in backing.numbers}:
                return backing
        return None


def backing_files(backings: Backings | None) -> Iterator[tuple[str, bytes]]:
    """Name and content of the file in a bundle's folder; nothing without backings."""
    if backings is not None:
        yield BACKINGS_FILE, MessageToJson(backings, preserving_proto_field_name=True).encode() + b"\n"


def _decided(backing: Backing | None, allowed: Where) -> Decision:
    if backing is None:
        return Decision(where=Where.UNKNOWN)
    if backing.refused_by:
        return Decision(where=Where.REFUSED, tenant=backing.tenant, rule=backing.refused_by, article=backing.article)
    return Decision(where=allowed, region=backing.backup, tenant=backing.tenant)
