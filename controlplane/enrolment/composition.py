"""Enrolment, put together for an active instance: what asks the authority, what changes the roster, the ports."""

import contextlib
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import structlog

from contract.downlink_pb2 import RosterHub
from contract.enrolment_pb2_grpc import add_EnrolmentServicer_to_server
from controlplane.admin.gate import HandlerCollector
from controlplane.audit import AuditLog
from controlplane.bundles.regions import RegionBundles
from controlplane.database import HubDatabase
from controlplane.enrolment.attempts import FailedAttempts
from controlplane.enrolment.authority import SigningAuthority, signing_authority
from controlplane.enrolment.door import Door
from controlplane.enrolment.enrolling import Enrolment
from controlplane.enrolment.errors import EnrolmentServerError
from controlplane.enrolment.members import Members
from controlplane.enrolment.metrics import EnrolmentMetrics
from controlplane.enrolment.rosters import Rosters
from controlplane.enrolment.server import EnrolmentAddress, enrolment_server
from controlplane.enrolment.service import EnrolmentService
from controlplane.enrolment.token_desk import TokenDesk
from controlplane.enrolment.tokens import fingerprint_of
from controlplane.settings import AdminSection, EnrolmentSection, HubSettings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolled:
    """What of the hub enrolment works with. `published` is told when new bundles may be in the outbox."""

    database: HubDatabase
    audit: AuditLog
    rosters: Rosters
    bundles: RegionBundles
    regions: Callable[[], Collection[str]]
    published: Callable[[], None]
    metrics: EnrolmentMetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentParts:
    """What others of the instance need of enrolment."""

    authority: SigningAuthority
    members: Members
    desk: TokenDesk
    door: Door


def rosters_of(settings: HubSettings) -> Rosters | None:
    """Which rosters bundles carry; None where the hub enrols nobody."""
    section = settings.enrolment
    if section is None:
        return None
    return Rosters(
        RosterHub(
            node=settings.hub.name,
            address=section.address,
            leaf_port=section.leaf_port,
            client_port=section.client_port,
        )
    )


@contextlib.asynccontextmanager
async def enrolment_parts(
    section: EnrolmentSection, authority_file: Path, hub: Enrolled
) -> AsyncIterator[EnrolmentParts]:
    """Everything but the ports. Raises EnrolmentServerError."""
    fingerprint = _fingerprint(authority_file)
    async with signing_authority(section.authority_socket) as authority:
        members = Members(
            hub.database, authority, hub.bundles, hub.rosters, metrics=hub.metrics, published=hub.published
        )
        enrolment = Enrolment(hub.database, authority, members, fingerprint=fingerprint, regions=hub.regions)
        collector = HandlerCollector()
        add_EnrolmentServicer_to_server(EnrolmentService(enrolment), collector)
        attempts = FailedAttempts(allowed=section.failures_allowed, within_s=section.failures_within_s)
        yield EnrolmentParts(
            authority=authority,
            members=members,
            desk=TokenDesk(hub.database, fingerprint=fingerprint, regions=hub.regions),
            door=Door(collector.handlers, hub.audit, attempts, hub.metrics),
        )


async def open_ports(section: EnrolmentSection, admin: AdminSection, door: Door, stack: AsyncExitStack) -> None:
    """Let nodes in until the stack ends. Raises EnrolmentServerError."""
    address = EnrolmentAddress(
        host=section.host,
        port=section.port,
        renewal_port=section.renewal_port,
        authority=admin.authority,
        certificate=admin.certificate,
        key=admin.key,
    )
    ports = await stack.enter_async_context(enrolment_server(address, door))
    log.info("enrolment_listening", port=ports.enrolment, renewal_port=ports.renewal)


def _fingerprint(authority_file: Path) -> str:
    try:
        return fingerprint_of(authority_file.read_bytes())
    except (OSError, ValueError) as error:
        raise EnrolmentServerError(f"{authority_file}: {error}") from error
