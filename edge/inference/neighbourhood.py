"""Whom a client may ask: the service of its node, then those of siblings that the roster names, in a random order.

Connections to siblings are made when the client starts and kept, so that the first request that needs one finds it.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from contract.names import inference_host
from edge.inference.client_settings import SiblingSection
from edge.inference.endpoint import Endpoint
from edge.inference.errors import SiblingAccessError
from edge.inference.hedging import Work
from edge.inference.identity import Identity, read_identity
from edge.inference.region_roster import RegionRoster, Sibling

# What a node that left the region still works on may be finished.
LEAVING_S = 3.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """How siblings are found, and asked as whom."""

    settings: SiblingSection
    roster: RegionRoster
    identity: Identity

    def endpoint(self, sibling: Sibling) -> Endpoint:
        """Of the service on a sibling."""
        own = self.settings
        address = f"[{sibling.address}]" if ":" in sibling.address else sibling.address
        return Endpoint.sibling(
            sibling.name, f"{address}:{own.port}", inference_host(own.region, sibling.name), self.identity
        )


def region_of(settings: SiblingSection | None) -> Region | None:
    """None where siblings are not to be asked, or cannot be: this node's own service comes first."""
    if settings is None:
        return None
    try:
        identity = read_identity(settings.authority, settings.certificate, settings.key)
    except SiblingAccessError as error:
        log.error("siblings_not_asked", reason=str(error), hint=error.hint)  # noqa: TRY400 - an operator's to mend
        return None
    roster = RegionRoster(settings.roster, region=settings.region, node=settings.node)
    return Region(settings=settings, roster=roster, identity=identity)


class Neighbourhood:
    """Endpoints that come and go with the roster."""

    def __init__(
        self, socket: Path, region: Region | None, tasks: asyncio.TaskGroup, came_back: Callable[[], None]
    ) -> None:
        self.local = Endpoint.local(socket, came_back)
        self._region = region
        self._tasks = tasks
        self._siblings: dict[Sibling, Endpoint] = {}

    def start(self) -> None:
        """Connect."""
        self.local.start(self._tasks)
        self._follow_roster()

    async def stop(self) -> None:
        """Close all connections."""
        for endpoint in self.endpoints():
            await endpoint.stop()
        self._siblings = {}

    def endpoints(self) -> list[Endpoint]:
        """All, this node's first."""
        return [self.local, *self._siblings.values()]

    def candidates(self, work: Work, *, may_leave: bool) -> Sequence[Endpoint]:
        """Whom to ask for this work, best first; `may_leave`: siblings, too. Never empty: when nobody has good
        prospects, the service of this node, which is known at once to be down."""
        if not may_leave or self._region is None:
            return [self.local]
        self._follow_roster()
        now_s = asyncio.get_running_loop().time()
        siblings = [endpoint for endpoint in self._siblings.values() if endpoint.is_usable(work, now_s)]
        random.shuffle(siblings)
        if self.local.is_usable(work, now_s):
            return [self.local, *siblings]
        # A last resort, unless it would only be waited for in vain.
        return siblings if siblings and self.local.is_hung else [*siblings, self.local]

    def _follow_roster(self) -> None:
        if self._region is None:
            return
        wanted = self._region.roster.members().siblings
        for gone in set(self._siblings) - wanted:
            endpoint = self._siblings.pop(gone)
            self._tasks.create_task(endpoint.stop(LEAVING_S), name=f"inference:{gone.name}:stop")
        for new in wanted - set(self._siblings):
            log.info("sibling_found", node=new.name)
            self._siblings[new] = self._region.endpoint(new)
            self._siblings[new].start(self._tasks)
