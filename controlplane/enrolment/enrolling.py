"""What nodes ask of the hub: to enrol with a token, to renew their certificates, to confirm that they run on new ones.

A token is used up, and the name taken, in one transaction before anything is signed: of two that come at once one is
late. If it fails later, both are given back. A hub that dies in between leaves a used token and a node without
certificates, which no roster names; the admin makes another token, with `replaces`.

Renewal goes in three steps, because every server must know a certificate before it is used: `renew` stages new ones
beside those in use, the bundle that names both reaches all nodes, the node switches and confirms with its new agent
certificate, and the old ones are valid no more.
"""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import apsw
import structlog

from contract.downlink_pb2 import Roster
from controlplane.audit import append_entry
from controlplane.database import HubDatabase
from controlplane.enrolment import nodes, token_store
from controlplane.enrolment.authority import Signed
from controlplane.enrolment.errors import (
    CertificateRequestError,
    NodeAddressError,
    NodeNameTakenError,
    NodeUnknownError,
    NotSwitchedError,
    TokenForeignError,
)
from controlplane.enrolment.members import Change, Members
from controlplane.enrolment.nodes import Certificate, Node
from controlplane.enrolment.requests import AGENT, KeyRequest, check_address, check_name, check_requests
from controlplane.enrolment.tokens import Attempt, PresentedToken, judge, read_token

log = structlog.get_logger(__name__)

NODE_ACTOR = "node"


class Signing(Protocol):
    """What this module needs of the authority."""

    async def sign(self, region: str, node: str, address: str, requests: Sequence[KeyRequest]) -> Signed: ...

    async def switch(self, region: str, node: str, staged: Sequence[Certificate]) -> None: ...

    async def retire_staged(self, region: str, node: str) -> None: ...

    async def revoke(self, region: str, node: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolling:
    """What a machine brings that wants to be a node. `source` is the address that the hub sees."""

    token: str
    region: str
    node: str
    address: str
    requests: Sequence[KeyRequest]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a node gets. `bundle_version` is the first bundle that holds the roster."""

    roster: Roster
    bundle_version: int
    signed: Signed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """A name that was taken for a node, and who had it before."""

    node: Node
    before: Node | None
    token_id: str


class Enrolment:
    """Every method raises EnrolmentError for what the node did wrong; who serves it audits that. What succeeded is
    audited here, with the change."""

    def __init__(
        self,
        database: HubDatabase,
        authority: Signing,
        members: Members,
        *,
        fingerprint: str,
        regions: Callable[[], Collection[str]],
    ) -> None:
        self._database = database
        self._regions = regions
        self._authority = authority
        self._members = members
        self._fingerprint = fingerprint

    async def enroll(self, wish: Enrolling) -> Answer:
        """Use up a token and give the node certificates. Raises also AuthorityUnavailableError and what it refuses."""
        presented = read_token(wish.token)
        if presented.fingerprint != self._fingerprint:
            raise TokenForeignError("the token is of another hub")
        check_name(wish.region, wish.node)
        check_address(wish.address)
        requests = check_requests(wish.requests)
        async with self._members.turn:
            place = await self._take(wish, presented)
            try:
                # Also what an enrolment that failed half-way left behind.
                await self._authority.revoke(wish.region, wish.node)
                signed = await self._authority.sign(wish.region, wish.node, wish.address, requests)
                told = f"{wish.region}/{wish.node} at {wish.address} token {place.token_id} from {wish.source}"
                await self._members.publish(_audited("enrolment.enroll", told))
            except BaseException:
                await self._give_back(place)
                raise
        log.info("node_enrolled", region=wish.region, node=wish.node, token=place.token_id)
        return await self._answer(wish.region, signed)

    async def renew(self, uri: str, requests: Sequence[KeyRequest], source: str) -> Answer:
        """Stage new certificates for the node whose agent is `uri`; what was staged before is withdrawn. Raises also
        AuthorityUnavailableError and what it refuses."""
        checked = check_requests(requests)
        async with self._members.turn:
            node, own = await self._caller(uri)
            if any(one.uri == uri and one.is_staged for one in own):
                # It runs on them, and its word of that was lost.
                await self._authority.switch(node.region, node.name, [one for one in own if one.is_staged])
            elif any(one.is_staged for one in own):
                await self._authority.retire_staged(node.region, node.name)
            signed = await self._authority.sign(node.region, node.name, node.address, checked)
            await self._members.publish(_audited("enrolment.renew", f"{node.region}/{node.name} from {source}"))
        log.info("node_renewed", region=node.region, node=node.name)
        return await self._answer(node.region, signed)

    async def confirm(self, uri: str, roles: Collection[str], source: str) -> Answer:
        """The node runs on its staged certificates, of these roles or all; `uri` is its new agent's. Raises also
        AuthorityUnavailableError."""
        async with self._members.turn:
            node, own = await self._caller(uri)
            staged = [one for one in own if one.is_staged and (not roles or one.role in roles)]
            if set(roles) - {one.role for one in own}:
                raise CertificateRequestError("the node has no certificate of one of these roles")
            if any(one.role == AGENT and one.uri != uri for one in staged):
                raise NotSwitchedError(f"{node.name} confirmed with its old certificate")
            if staged:
                await self._authority.switch(node.region, node.name, staged)
                told = f"{node.region}/{node.name} from {source}"
                await self._members.publish(_audited("enrolment.confirm", told))
        return await self._answer(node.region, None)

    async def members(self, uri: str) -> Answer:
        """Who belongs to the region of the node whose agent is `uri`."""
        node, _ = await self._caller(uri)
        return await self._answer(node.region, None)

    async def _take(self, wish: Enrolling, presented: PresentedToken) -> _Place:
        at_ms = time.time_ns() // 1_000_000
        attempt = Attempt(region=wish.region, node=wish.node, source=wish.source)

        def write(connection: apsw.Connection) -> _Place:
            token = judge(token_store.find_token(connection, presented.id), presented, attempt, at_ms)
            if wish.region not in self._regions():
                raise TokenForeignError(f"region {wish.region} has no document any more")
            before = nodes.find_node(connection, wish.region, wish.node)
            if before is not None and before.state != nodes.REMOVED and not token.replaces:
                raise NodeNameTakenError(f"region {wish.region} has a node {wish.node} already")
            other = nodes.node_at(connection, wish.region, wish.address)
            if other is not None and other.name != wish.node:
                raise NodeAddressError(f"{wish.address} is the address of {other.name}")
            node = Node(
                region=wish.region, name=wish.node, address=wish.address, state=nodes.ACTIVE, enrolled_at_ms=at_ms
            )
            token_store.mark_used(connection, token.id, at_ms=at_ms, by=wish.node, source=wish.source)
            nodes.store_node(connection, node)
            return _Place(node=node, before=before, token_id=token.id)

        return await self._database.write(write)

    async def _give_back(self, place: _Place) -> None:
        def write(connection: apsw.Connection) -> None:
            token_store.mark_unused(connection, place.token_id)
            if place.before is None:
                nodes.forget_node(connection, place.node.region, place.node.name)
            else:
                nodes.store_node(connection, place.before)

        await self._database.write(write)

    async def _caller(self, uri: str) -> tuple[Node, list[Certificate]]:
        """The node whose agent has this certificate, and all that is valid of it. Raises NodeUnknownError."""

        def read(connection: apsw.Connection) -> tuple[Node, list[Certificate]]:
            mine = nodes.certificate_named(connection, uri)
            node = nodes.find_node(connection, mine.region, mine.node) if mine is not None else None
            if mine is None or mine.role != AGENT or node is None or node.state == nodes.REMOVED:
                raise NodeUnknownError("the client certificate is no agent's of a node that is enrolled here")
            return node, nodes.certificates_of(connection, mine.region, mine.node)

        return await self._database.read(read)

    async def _answer(self, region: str, signed: Signed | None) -> Answer:
        roster, version = await self._members.roster(region)
        return Answer(roster=roster, bundle_version=version, signed=signed)


def _audited(action: str, target: str) -> Change:
    return lambda connection: append_entry(connection, actor=NODE_ACTOR, role="", action=action, target=target)
