"""The Fleet service of the admin API: what every region should run, what its nodes say they run, and who they are."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import apsw

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import FleetServicer
from contract.uplink_pb2 import Health
from controlplane.admin.callers import CallContext, Role, require
from controlplane.bundles.outbox import BundleVersion, newest_versions
from controlplane.database import HubDatabase
from controlplane.documents.catalogue import Catalogue
from controlplane.enrolment.errors import EnrolmentOffError, NodeStateError
from controlplane.enrolment.metrics import first_ends
from controlplane.enrolment.nodes import REMOVED, STATES, Node, certificates, nodes
from controlplane.fleet.border import BorderWatch, LinkWatch
from controlplane.fleet.cordoning import Cordoning
from controlplane.fleet.refused import refused_documents
from controlplane.fleet.states import FleetStates, NodeState, Wanted
from controlplane.knowledge.store import newest_messages


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """What the database says."""

    bundles: Mapping[str, BundleVersion]
    knowledge: Mapping[tuple[str, str], int]
    nodes: Sequence[Node] = ()
    certificates_until_ms: Mapping[tuple[str, str], int] = field(default_factory=dict)


class FleetService(FleetServicer):
    """Viewers read, admins change states. Without `cordoning` the hub enrols nobody and knows no states."""

    def __init__(
        self,
        database: HubDatabase,
        catalogue: Catalogue,
        states: FleetStates,
        border: BorderWatch,
        links: LinkWatch,
        cordoning: Cordoning | None,
    ) -> None:
        self._database = database
        self._catalogue = catalogue
        self._states = states
        self._border = border
        self._links = links
        self._cordoning = cordoning

    async def Status(self, request: pb.FleetRequest, context: CallContext) -> pb.FleetReply:  # noqa: N802
        require(context, Role.VIEWER)
        stored = await self._database.read(_read)
        heard = self._states.regions(now_ms=time.time_ns() // 1_000_000)
        regions = [request.region] if request.region else sorted({*self._catalogue.regions(), *heard})
        refusals = sorted(self._border.recent().items())
        return pb.FleetReply(
            regions=[self._region(region, stored) for region in regions],
            border_refusals=[pb.BorderRefusals(kind=kind.value, count=count) for kind, count in refusals],
            unknown_links=[pb.UnknownLink(region=link.region, node=link.node) for link in self._links.unknown],
        )

    async def SetState(self, request: pb.NodeStateRequest, context: CallContext) -> pb.NodeStateReply:  # noqa: N802
        caller = require(context, Role.ADMIN)
        if self._cordoning is None:
            raise EnrolmentOffError("this hub enrols no nodes, so that it has no states of them")
        if request.state not in STATES:
            raise NodeStateError("the request names no state that a node can have")
        change = await self._cordoning.set_state(
            request.region, request.node, request.state, caller, force=request.force
        )
        return pb.NodeStateReply(
            region=change.node.region,
            node=change.node.name,
            state=change.node.state,
            before=change.before,
            bundle_version=change.bundle_version,
        )

    def _region(self, region: str, stored: _Stored) -> pb.RegionStatus:
        served = self._catalogue.tenants_in(region)
        bundle = stored.bundles.get(region)
        wanted = Wanted(
            bundle_version=bundle.version if bundle is not None else 0,
            knowledge={
                tenant: stored.knowledge[region, tenant] for tenant in served if (region, tenant) in stored.knowledge
            },
        )
        now_ms = time.time_ns() // 1_000_000
        heard = self._states.nodes(region, wanted, now_ms=now_ms)
        enrolled = {node.name: node for node in stored.nodes if node.region == region}
        gone = {node.name for node in enrolled.values() if node.state == REMOVED}
        shown = [_node(state, enrolled.get(state.node), stored) for state in heard if state.node not in gone]
        unheard = enrolled.keys() - {state.node for state in heard} - gone
        shown += [_unheard(enrolled[name], stored, now_ms) for name in unheard]
        return pb.RegionStatus(
            region=region,
            bundle_version=wanted.bundle_version,
            bundle_created_at_ms=bundle.created_at_ms if bundle is not None else 0,
            nodes=sorted(shown, key=lambda node: node.node),
            refused_documents=refused_documents(heard, served, self._catalogue.owners),
        )


def _read(connection: apsw.Connection) -> _Stored:
    return _Stored(
        bundles=newest_versions(connection),
        knowledge=newest_messages(connection),
        nodes=nodes(connection),
        certificates_until_ms=first_ends(certificates(connection)),
    )


def _node(state: NodeState, enrolled: Node | None, stored: _Stored) -> pb.NodeStatus:
    shown = pb.NodeStatus(
        node=state.node,
        health=state.health,
        age_ms=state.age_ms,
        is_silent=state.is_silent,
        is_drifted=state.is_drifted,
        refused=state.refused,
    )
    if enrolled is not None:
        shown.MergeFrom(_enrolled(enrolled, stored))
    return shown


def _unheard(node: Node, stored: _Stored, now_ms: int) -> pb.NodeStatus:
    """A node that enrolled and was not heard for a day, or not yet."""
    shown = _enrolled(node, stored)
    shown.health.CopyFrom(Health(region=node.region, node=node.name))
    shown.age_ms, shown.is_silent = max(0, now_ms - node.enrolled_at_ms), True
    return shown


def _enrolled(node: Node, stored: _Stored) -> pb.NodeStatus:
    return pb.NodeStatus(
        node=node.name,
        state=node.state,
        address=node.address,
        enrolled_at_ms=node.enrolled_at_ms,
        certificates_until_ms=stored.certificates_until_ms.get((node.region, node.name), 0),
    )
