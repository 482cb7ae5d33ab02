"""The one door of the admin API: every request passes here, whatever service it is for.

On the way in: is this instance active, is the certificate known and not revoked. On the way out: an error of ours
becomes a gRPC status with its code and hint in the trailing metadata, and a refused mutation is audited.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc
import structlog

from contract.admin_pb2 import ApplyRequest, RollbackRequest
from contract.errors import BoroughError
from controlplane.admin.callers import CallContext, Caller, caller_of
from controlplane.admin.refusals import INTERNAL, INTERNAL_CODE, refusal_of
from controlplane.admin.revocation import RevocationList
from controlplane.audit import AuditLog
from controlplane.errors import CallerError, ControlPlaneError, RevokedCallerError, StandbyError

log = structlog.get_logger(__name__)

SERVICE_PREFIX = "borough.admin.v1."
MUTATIONS = frozenset({
    "Documents.Apply", "Documents.Rollback", "Documents.Delete",
    "Knowledge.Build", "Knowledge.Publish", "Knowledge.Rollback",
    "Fleet.SetState", "NodeTokens.Create", "NodeTokens.Revoke",
})  # fmt: skip

Behaviour = Callable[[object, "AnswerContext"], Awaitable[object]]


class AnswerContext(CallContext, Protocol):
    """What the gate needs of a gRPC context."""

    async def abort(self, code: object, details: str, trailing_metadata: tuple[tuple[str, str], ...]) -> None: ...


class CallDetails(Protocol):
    """What gRPC says of a call before its handler is known."""

    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What an active instance serves: the generic handlers of its servicers."""

    handlers: Sequence[grpc.GenericRpcHandler]
    audit: AuditLog


class HandlerCollector:
    """Stands in for a server in the generated `add_..._to_server`, which is the only way to a servicer's handlers."""

    def __init__(self) -> None:
        self.handlers: list[grpc.GenericRpcHandler] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self.handlers += handlers

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """The generic handlers say the same."""


class Gate(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Lets requests through while it is open; `who_is_active` names the instance to ask instead."""

    def __init__(
        self, revoked: RevocationList, who_is_active: Callable[[], str], refused: Callable[[str], None]
    ) -> None:
        self._revoked = revoked
        self._who_is_active = who_is_active
        self._count_refused = refused
        self._services: Services | None = None

    @property
    def is_open(self) -> bool:
        """Whether this instance is active."""
        return self._services is not None

    def open(self, services: Services) -> None:
        """This instance is active from now on."""
        self._services = services

    def close(self) -> None:
        """Refuse from now on."""
        self._services = None

    def service(self, details: CallDetails) -> grpc.RpcMethodHandler | None:
        """Called by gRPC for every request."""
        name = (
            details.method.rpartition("/")[0].removeprefix(f"/{SERVICE_PREFIX}")
            + "."
            + details.method.rpartition("/")[2]
        )
        services = self._services
        if services is None:
            return grpc.unary_unary_rpc_method_handler(self._guarded(name, _nothing))
        for candidate in services.handlers:
            handler = candidate.service(details)
            if handler is not None:
                return self._wrap(name, handler)
        return None

    def _wrap(self, name: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        make = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        behaviour = handler.stream_unary if handler.request_streaming else handler.unary_unary
        assert behaviour is not None, f"{name}: answers are never streamed"
        return make(
            self._guarded(name, behaviour),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _guarded(self, name: str, behaviour: Behaviour) -> Behaviour:
        async def answer(request: object, context: AnswerContext) -> object:
            try:
                self._admit(context)
                return await behaviour(request, context)
            except BoroughError as error:
                await self._refuse(name, request, context, error)
            except Exception:  # our bug: the client learns no more than that; the log has the traceback
                log.exception("admin_request_failed", method=name)
                self._count_refused(INTERNAL_CODE)
                await context.abort(INTERNAL.status, INTERNAL.message, INTERNAL.metadata)
            return None

        return answer

    def _admit(self, context: AnswerContext) -> None:
        caller = caller_of(context)
        if self._revoked.is_revoked(caller.serial):
            raise RevokedCallerError(f"the certificate of {caller.name} was revoked")
        if self._services is None:
            raise StandbyError(f"this instance waits; active is {self._who_is_active()}")

    async def _refuse(self, name: str, request: object, context: AnswerContext, error: BoroughError) -> None:
        self._count_refused(error.code)
        log.info("admin_request_refused", method=name, code=error.code)
        if name in MUTATIONS and not _is_dry_run(request):
            await self._audit(name, context, error)
        refusal = refusal_of(error)
        await context.abort(refusal.status, refusal.message, refusal.metadata)

    async def _audit(self, name: str, context: AnswerContext, error: BoroughError) -> None:
        services = self._services
        if services is None:
            return
        caller = _caller_or_none(context)
        try:
            await services.audit.append(
                actor=caller.name if caller is not None else "unknown",
                role=caller.role if caller is not None else "",
                action=name,
                target="",
                outcome=error.code,
            )
        except ControlPlaneError as failure:  # the lease is lost, or the disk is full: the client still gets its answer
            log.warning("refusal_not_audited", method=name, code=error.code, error=failure.code)


def _is_dry_run(request: object) -> bool:
    return isinstance(request, ApplyRequest | RollbackRequest) and request.dry_run


def _caller_or_none(context: CallContext) -> Caller | None:
    try:
        return caller_of(context)
    except CallerError:
        return None


async def _nothing(request: object, context: AnswerContext) -> object:
    del request, context
    raise StandbyError("this instance waits")
