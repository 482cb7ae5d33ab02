"""Whose calls may be taken in another region than their own, as the applied bundle says, and what a caller is told
where a law forbids it.

The hub judges (controlplane/documents/backing.py) and tells both regions of a pair: the one that may run out of room,
and the one that could help. Nothing here guesses: a number that no backing names belongs to nobody else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a call of another region's may not be taken here: the rule and its article, and whose number it is."""

    tenant: str
    rule: str
    article: str


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

    def refusal_of(self, called_number: str) -> Refusal | None:
        """The law that keeps a call to this number from being taken here; None where none does."""
        digits = called_number.removeprefix("+")
        for backing in self.backings:
            is_ours_to_back = backing.backup == self.own_region
            if is_ours_to_back and digits in {number.removeprefix("+") for number in backing.numbers}:
                if not backing.refused_by:
                    return None
                return Refusal(tenant=backing.tenant, rule=backing.refused_by, article=backing.article)
        return None


def backing_files(backings: Backings | None) -> Iterator[tuple[str, bytes]]:
    """Name and content of the file in a bundle's folder; nothing without backings."""
    if backings is not None:
        yield BACKINGS_FILE, MessageToJson(backings, preserving_proto_field_name=True).encode() + b"\n"
