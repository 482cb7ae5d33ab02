"""Whether what a node says of itself is nothing but counts, versions, and names that the hub gave out. Pure.

Form, sizes and sender are judged by contract/uplink_guard.py; here come the names. What is wrong is told by field,
never by content.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from contract import uplink_guard
from contract.uplink_pb2 import Ack, Health

HEALTH = "health"
ACK = "ack"


class KnownNames(Protocol):
    """Names that documents gave, in any revision: a node may still run an older bundle."""

    def tenants(self, region: str) -> Collection[str]:
        """Tenants that the region serves or served."""

    def owners(self, kind: str, name: str) -> Collection[str]:
        """Tenants that have or had a document of this kind and name; a region's owner is ""."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A message on `up.<region>.<kind>.<node>`."""

    region: str
    kind: str
    node: str
    payload: bytes
    headers: Mapping[str, str] | None


def read_state(arrived: Arrived, names: KnownNames) -> tuple[Health | Ack, list[str]]:
    """What the node says, and everything that is wrong with it; refuse it if that is anything."""
    said: Health | Ack
    said, problems = uplink_guard.read(Health if arrived.kind == HEALTH else Ack, arrived.payload)
    problems = problems + uplink_guard.check_headers(arrived.headers)
    if not problems:
        problems = uplink_guard.check_sender(said, arrived.region, arrived.node)
    if not problems:
        problems = list(_health(said, names) if isinstance(said, Health) else _ack(said, names))
    return said, problems


def _health(health: Health, names: KnownNames) -> Iterator[str]:
    known = names.tenants(health.region)
    if any(version.tenant not in known for version in health.knowledge):
        yield "knowledge.tenant: is not known in the region"


def _ack(ack: Ack, names: KnownNames) -> Iterator[str]:
    if ack.tenant and ack.tenant not in names.tenants(ack.region):
        yield "tenant: is not known in the region"
    if ack.document_name and not names.owners(ack.document_kind, ack.document_name):
        yield "document_name: is not known"
