"""Takes nodes out of rotation and back, and out of their region: the roster says it, in a bundle of its own.

ACTIVE <-> CORDONED <-> DRAINING     any of the three to any other
CORDONED, DRAINING -> REMOVED        when the node says that it refuses calls and has none
any -> REMOVED                       with force: the node is lost
REMOVED ->                           nothing: the machine enrols again
"""

import time
from dataclasses import dataclass, replace
from typing import Protocol

import apsw
import structlog

from contract.downlink_pb2 import NodeState
from controlplane.admin.callers import Caller
from controlplane.audit import append_entry
from controlplane.database import HubDatabase
from controlplane.enrolment import nodes
from controlplane.enrolment.errors import NodeBusyError, NodeNotFoundError
from controlplane.enrolment.members import Change, Members
from controlplane.enrolment.nodes import CORDONED, DRAINING, REMOVED, Node
from controlplane.errors import ControlPlaneError
from controlplane.fleet.states import FleetStates

log = structlog.get_logger(__name__)

PREFIX = "NODE_STATE_"


class Revoking(Protocol):
    """What this module needs of the authority."""

    async def revoke(self, region: str, node: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """What became of a node. `bundle_version` is the region's newest bundle, which says it; 0 before the first."""

    node: Node
    before: NodeState.ValueType
    bundle_version: int


class Cordoning:
    """Changes the states of nodes."""

    def __init__(self, database: HubDatabase, authority: Revoking, members: Members, states: FleetStates) -> None:
        self._database = database
        self._authority = authority
        self._members = members
        self._states = states

    async def set_state(
        self, region: str, name: str, state: NodeState.ValueType, caller: Caller, *, force: bool = False
    ) -> StateChange:
        """Change the state of a node; `region` may be empty where one region alone has the name. Raises
        NodeNotFoundError, NodeBusyError, AuthorityUnavailableError and what the authority refuses."""
        async with self._members.turn:
            before = await self._database.read(lambda connection: _find(connection, region, name))
            after = replace(before, state=state)
            if state == REMOVED and not force:
                self._check_idle(before)

            def change(connection: apsw.Connection) -> None:
                nodes.store_node(connection, after)
                _audit(connection, caller, after, is_forced=force)

            if state == REMOVED:
                await self._remove(after, change)
            elif after != before:
                await self._members.publish(change)
        log.info("node_state_changed", region=after.region, node=name, state=_told(state))
        _, version = await self._members.roster(after.region)
        return StateChange(node=after, before=before.state, bundle_version=version)

    async def _remove(self, node: Node, change: Change) -> None:
        # Stored before the authority is asked: where it does not answer, the next look revokes.
        await self._database.write(change)
        try:
            await self._authority.revoke(node.region, node.name)
            await self._members.publish(lambda _: None)
        except ControlPlaneError:
            self._members.look_again()
            raise

    def _check_idle(self, node: Node) -> None:
        """Raises NodeBusyError."""
        if node.state not in (CORDONED, DRAINING):
            raise NodeBusyError(f"{node.name} is {_told(node.state)}")
        heard = self._states.health(node.region, node.name, now_ms=time.time_ns() // 1_000_000)
        if heard is None:
            raise NodeBusyError(f"{node.name} is not heard: whether calls run there is not known")
        if not heard.is_cordoned or heard.capacity.slots_used_peak:
            raise NodeBusyError(f"{node.name} still has {heard.capacity.slots_used_peak} calls, or takes new ones")


def _find(connection: apsw.Connection, region: str, name: str) -> Node:
    found = [node for node in nodes.nodes_named(connection, name) if region in ("", node.region)]
    enrolled = [node for node in found if node.state != REMOVED]
    if len(enrolled) != 1:
        told = f"several regions have a node {name}" if enrolled else f"there is no enrolled node {name!r}"
        raise NodeNotFoundError(told + (f" in region {region!r}" if region else ""))
    return enrolled[0]


def _audit(connection: apsw.Connection, caller: Caller, node: Node, *, is_forced: bool) -> None:
    target = f"{node.region}/{node.name} {_told(node.state)}{' forced' if is_forced else ''}"
    append_entry(connection, actor=caller.name, role=caller.role, action="fleet.set_state", target=target)


def _told(state: NodeState.ValueType) -> str:
    return NodeState.Name(state).removeprefix(PREFIX).lower()
