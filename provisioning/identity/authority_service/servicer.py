"""contract/authority.proto, answered from the store. Every request is one audit line in the log, refused ones too."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import grpc
import structlog

from contract import authority_pb2 as pb
from contract.authority_pb2_grpc import AuthorityServicer
from contract.errors import BoroughError
from provisioning.identity.authority_service.metrics import AuthorityMetrics
from provisioning.identity.errors import (
    IdentityDamagedError,
    IdentityError,
    IdentityMissingError,
    IdentityNameError,
    IdentityRequestError,
)
from provisioning.identity.names import HUB_SITE, ServiceName, ServiceRole
from provisioning.identity.signing import NodeSigning, SigningOrder
from provisioning.identity.store import Entry, State

log = structlog.get_logger(__name__)

ReplyT = TypeVar("ReplyT")
INTERNAL_CODE = "identity.internal"
STATUS: tuple[tuple[type[IdentityError], grpc.StatusCode], ...] = (
    (IdentityNameError, grpc.StatusCode.INVALID_ARGUMENT),
    (IdentityRequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (IdentityMissingError, grpc.StatusCode.NOT_FOUND),
    (IdentityDamagedError, grpc.StatusCode.INTERNAL),
    (IdentityError, grpc.StatusCode.FAILED_PRECONDITION),
)


class NodeRequest(Protocol):
    """What requests about a node have in common."""

    @property
    def site(self) -> str: ...

    @property
    def node(self) -> str: ...


class AnswerContext(Protocol):
    """What we need of a gRPC context."""

    async def abort(self, code: object, details: str, trailing_metadata: tuple[tuple[str, str], ...]) -> None: ...


class Authority(AuthorityServicer):
    """The servicer. The store blocks (it locks and syncs files), so it works in a thread."""

    def __init__(self, signing: NodeSigning, metrics: AuthorityMetrics) -> None:
        self._signing = signing
        self._metrics = metrics

    async def Sign(  # noqa: N802 - as the contract has it
        self, request: pb.SignRequest, context: AnswerContext
    ) -> pb.SignReply:
        orders = [
            SigningOrder(
                role=order.role,
                request_der=order.csr_der,
                addresses=tuple(order.addresses),
                days=order.days,
                generation=order.generation,
            )
            for order in request.orders
        ]

        def work() -> pb.SignReply:
            store = self._signing.store
            signed = self._signing.sign(request.site, request.node, orders, _now())
            self._audit("sign", request, [made.entry for made in signed])
            return pb.SignReply(
                certificates=[_certificate(made.entry, made.certificate) for made in signed],
                authority_pem=store.authority_file.read_bytes(),
                signing_public_pem=store.signing_public_file.read_bytes(),
            )

        return await self._answer("Sign", request, context, work, pb.SignReply())

    async def Switch(  # noqa: N802
        self, request: pb.SwitchRequest, context: AnswerContext
    ) -> pb.CertificatesReply:
        def work() -> pb.CertificatesReply:
            return self._changed("switch", request, self._signing.switch(request.site, request.node, _pairs(request)))

        return await self._answer("Switch", request, context, work, pb.CertificatesReply())

    async def Retire(  # noqa: N802
        self, request: pb.RetireRequest, context: AnswerContext
    ) -> pb.CertificatesReply:
        def work() -> pb.CertificatesReply:
            return self._changed("retire", request, self._signing.retire(request.site, request.node, _pairs(request)))

        return await self._answer("Retire", request, context, work, pb.CertificatesReply())

    async def Revoke(  # noqa: N802
        self, request: pb.RevokeRequest, context: AnswerContext
    ) -> pb.CertificatesReply:
        def work() -> pb.CertificatesReply:
            return self._changed("revoke", request, self._signing.revoke(request.site, request.node))

        return await self._answer("Revoke", request, context, work, pb.CertificatesReply())

    async def Roster(  # noqa: N802
        self, request: pb.RosterRequest, context: AnswerContext
    ) -> pb.RosterReply:
        def work() -> pb.RosterReply:
            return _roster(self._signing.valid(request.site, _now()))

        return await self._answer("Roster", None, context, work, pb.RosterReply())

    async def count(self) -> None:
        """Bring the gauges up to date with the index."""
        self._metrics.tell(await asyncio.to_thread(self._signing.store.entries))

    def _changed(self, action: str, request: NodeRequest, entries: Sequence[Entry]) -> pb.CertificatesReply:
        self._audit(action, request, entries)
        return pb.CertificatesReply(certificates=[_certificate(entry) for entry in entries])

    @staticmethod
    def _audit(action: str, request: NodeRequest, entries: Iterable[Entry]) -> None:
        log.info(
            "authority_changed",
            action=action,
            site=request.site,
            node=request.node,
            certificates=[f"{entry.role}/{entry.generation} {entry.serial} {entry.state}" for entry in entries],
        )

    async def _answer(
        self,
        method: str,
        request: NodeRequest | None,
        context: AnswerContext,
        work: Callable[[], ReplyT],
        nothing: ReplyT,
    ) -> ReplyT:
        try:
            _admit(request)
            reply = await asyncio.to_thread(work)
        except BoroughError as error:
            await self._refuse(method, request, context, error)
        except Exception:  # our bug, or a full disk: the client learns no more than that; the log has the traceback
            log.exception("authority_failed", method=method)
            self._metrics.requests.labels(method, INTERNAL_CODE).inc()
            await context.abort(
                grpc.StatusCode.INTERNAL, "the authority failed; its log says why", (("borough-code", INTERNAL_CODE),)
            )
        else:
            self._metrics.requests.labels(method, "ok").inc()
            if request is not None:
                await self.count()
            return reply
        return nothing

    async def _refuse(
        self, method: str, request: NodeRequest | None, context: AnswerContext, error: BoroughError
    ) -> None:
        self._metrics.requests.labels(method, error.code).inc()
        who = {"site": request.site[:64], "node": request.node[:64]} if request is not None else {}
        log.warning("authority_refused", method=method, code=error.code, reason=str(error), **who)
        status = next(status for kind, status in STATUS if isinstance(error, kind))
        hint = error.hint.encode("ascii", "replace").decode()
        await context.abort(status, str(error), (("borough-code", error.code), ("borough-hint", hint)))


def _admit(request: NodeRequest | None) -> None:
    # Who breaks into the control plane must not get himself the identity of another service of the hub.
    if request is not None and request.site == HUB_SITE:
        raise IdentityNameError("the hub's own certificates are made by root on its machine, not over this socket")


def _pairs(request: pb.SwitchRequest | pb.RetireRequest) -> list[tuple[str, int]]:
    return [(item.role, item.generation) for item in request.staged]


def _certificate(entry: Entry, pem: bytes = b"") -> pb.Certificate:
    site, node, role = entry.key.split("/")
    name = ServiceName(site=site, node=node, role=ServiceRole(role))
    return pb.Certificate(
        role=entry.role,
        generation=entry.generation,
        state=_STATES[entry.state],
        uri=name.uri(entry.generation),
        serial=entry.serial,
        pin=entry.pin,
        not_after_ms=int(datetime.fromisoformat(entry.not_after).timestamp() * 1000),
        certificate_pem=pem,
    )


_STATES = {
    State.STAGED: pb.CERTIFICATE_STATE_STAGED,
    State.CURRENT: pb.CERTIFICATE_STATE_CURRENT,
    State.RETIRED: pb.CERTIFICATE_STATE_RETIRED,
    State.REVOKED: pb.CERTIFICATE_STATE_REVOKED,
}


def _roster(entries: Iterable[Entry]) -> pb.RosterReply:
    nodes: dict[tuple[str, str], dict[str, list[Entry]]] = {}
    for entry in entries:
        site, node, role = entry.key.split("/")
        nodes.setdefault((site, node), {}).setdefault(role, []).append(entry)
    return pb.RosterReply(
        nodes=[
            pb.NodeIdentities(
                site=site,
                node=node,
                roles=[
                    pb.RoleIdentity(role=role, certificates=[_certificate(entry) for entry in valid])
                    for role, valid in roles.items()
                ],
            )
            for (site, node), roles in nodes.items()
        ]
    )


def _now() -> datetime:
    return datetime.now(UTC)
