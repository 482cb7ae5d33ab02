"""Who belongs to the regions: asks the authority what is valid, and has the bundles say it.

What changes membership does its part with the authority first and then calls `publish`: what the authority says is
valid, the change itself, its audit entry and the new bundles are one transaction. A crash in between is mended by the
next look, which comes at start and every minute: it also drops certificates that have expired.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

import apsw
import structlog

from contract.downlink_pb2 import Roster
from controlplane.bundles.outbox import BundleVersion, newest_versions
from controlplane.bundles.regions import RegionBundles
from controlplane.database import HubDatabase
from controlplane.documents.store import load_estate
from controlplane.enrolment import nodes
from controlplane.enrolment.errors import AuthorityRefusedError, AuthorityUnavailableError
from controlplane.enrolment.metrics import EnrolmentMetrics
from controlplane.enrolment.nodes import Certificate
from controlplane.enrolment.rosters import Rosters
from controlplane.errors import ControlPlaneError, LeaseLostError

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 60.0
RETRY_AFTER_S = 5.0
# Where the authority files the hub's own services.
HUB_SITE = "hub"

Change = Callable[[apsw.Connection], None]


class Validity(Protocol):
    """What this module needs of the authority."""

    async def valid(self) -> list[Certificate]: ...

    async def revoke(self, region: str, node: str) -> None: ...


class Members:
    """Keeps what the database says of nodes and certificates in step with the authority."""

    def __init__(
        self,
        database: HubDatabase,
        authority: Validity,
        bundles: RegionBundles,
        rosters: Rosters,
        *,
        metrics: EnrolmentMetrics,
        published: Callable[[], None],
    ) -> None:
        """`published` is told when new bundles may be in the outbox."""
        self._database = database
        self._authority = authority
        self._bundles = bundles
        self._rosters = rosters
        self._metrics = metrics
        self._published = published
        # Two that change the authority at once could each store what was valid before the other.
        self.turn = asyncio.Lock()
        self._again = asyncio.Event()

    def look_again(self) -> None:
        """Something was left undone."""
        self._again.set()

    async def run(self) -> None:
        """Look for ever; what a lost answer or a crash left behind is mended so."""
        while True:
            wait_s = LOOK_EVERY_S
            self._again.clear()
            try:
                async with self.turn:
                    await self._look()
                self._metrics.authority_unavailable.set(0)
            except LeaseLostError:
                raise
            except ControlPlaneError as error:  # also documents that do not fit into a bundle beside the roster
                log.warning("rosters_not_renewed", code=error.code, error=str(error))
                is_away = isinstance(error, AuthorityUnavailableError | AuthorityRefusedError)
                self._metrics.authority_unavailable.set(int(is_away))
                wait_s = RETRY_AFTER_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._again.wait()

    async def publish(self, change: Change) -> None:
        """Store a change with what is valid now and the bundles that follow from it; within `turn`.
        Raises AuthorityUnavailableError, AuthorityRefusedError and BundleTooLargeError."""
        valid = await self._authority.valid()

        def write(connection: apsw.Connection) -> list[BundleVersion]:
            change(connection)
            known = {(node.region, node.name) for node in nodes.nodes(connection)}
            nodes.replace_certificates(connection, [one for one in valid if (one.region, one.node) in known])
            estate, _ = load_estate(connection)
            return self._bundles.store_changed(connection, estate)

        for bundle in await self._database.write(write):
            log.info("roster_changed", region=bundle.region, bundle=bundle.version)
        self._published()
        await self._count()

    async def roster(self, region: str) -> tuple[Roster, int]:
        """The roster of a region, and the version of its newest bundle, which says it; 0 before the first."""

        def read(connection: apsw.Connection) -> tuple[Roster, int]:
            newest = newest_versions(connection).get(region)
            roster = self._rosters.read(connection).get(region, Roster(region=region))
            return roster, newest.version if newest is not None else 0

        return await self._database.read(read)

    async def _look(self) -> None:
        """Have valid what should be: no certificate of a removed node; none that a bundle does not name."""
        known = {(node.region, node.name): node for node in await self._database.read(nodes.nodes)}
        valid = await self._authority.valid()
        for region, name in sorted({(one.region, one.node) for one in valid}):
            node = known.get((region, name))
            if node is None and region != HUB_SITE:
                # An enrolment that this database lost, or a certificate issued by hand: no roster names it.
                log.warning("valid_node_not_enrolled", region=region, node=name)
            elif node is not None and node.state == nodes.REMOVED:
                log.warning("removed_node_still_valid", region=region, node=name)
                await self._authority.revoke(region, name)
        await self.publish(lambda _: None)

    async def _count(self) -> None:
        found = await self._database.read(nodes.nodes)
        certificates = await self._database.read(nodes.certificates)
        self._metrics.show(found, certificates)
