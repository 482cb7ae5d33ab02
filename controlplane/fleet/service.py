"""The Fleet service of the admin API: what every region should run, and what its nodes say they run."""

import time
from collections.abc import Mapping

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import FleetServicer
from controlplane.admin.callers import CallContext, Role, require
from controlplane.bundles.outbox import BundleVersion, newest_versions
from controlplane.database import HubDatabase
from controlplane.documents.catalogue import Catalogue
from controlplane.fleet.border import BorderWatch, LinkWatch
from controlplane.fleet.refused import refused_documents
from controlplane.fleet.states import FleetStates, NodeState, Wanted
from controlplane.knowledge.store import newest_messages


class FleetService(FleetServicer):
    """Viewers read."""

    def __init__(
        self, database: HubDatabase, catalogue: Catalogue, states: FleetStates, border: BorderWatch, links: LinkWatch
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._states = states
        self._border = border
        self._links = links

    async def Status(self, request: pb.FleetRequest, context: CallContext) -> pb.FleetReply:  # noqa: N802
        require(context, Role.VIEWER)
        bundles = await self._database.read(newest_versions)
        knowledge = await self._database.read(newest_messages)
        heard = self._states.regions(now_ms=time.time_ns() // 1_000_000)
        regions = [request.region] if request.region else sorted({*self._catalogue.regions(), *heard})
        refusals = sorted(self._border.recent().items())
        return pb.FleetReply(
            regions=[self._region(region, bundles.get(region), knowledge) for region in regions],
            border_refusals=[pb.BorderRefusals(kind=kind.value, count=count) for kind, count in refusals],
            unknown_links=[pb.UnknownLink(region=link.region, node=link.node) for link in self._links.unknown],
        )

    def _region(
        self, region: str, bundle: BundleVersion | None, knowledge: Mapping[tuple[str, str], int]
    ) -> pb.RegionStatus:
        served = self._catalogue.tenants_in(region)
        wanted = Wanted(
            bundle_version=bundle.version if bundle is not None else 0,
            knowledge={tenant: knowledge[region, tenant] for tenant in served if (region, tenant) in knowledge},
        )
        nodes = self._states.nodes(region, wanted, now_ms=time.time_ns() // 1_000_000)
        return pb.RegionStatus(
            region=region,
            bundle_version=wanted.bundle_version,
            bundle_created_at_ms=bundle.created_at_ms if bundle is not None else 0,
            nodes=[_node(state) for state in nodes],
            refused_documents=refused_documents(nodes, served, self._catalogue.owners),
        )


def _node(state: NodeState) -> pb.NodeStatus:
    return pb.NodeStatus(
        node=state.node,
        health=state.health,
        age_ms=state.age_ms,
        is_silent=state.is_silent,
        is_drifted=state.is_drifted,
        refused=state.refused,
    )
