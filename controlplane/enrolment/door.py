"""The door of the enrolment ports: every request of a node passes here.

On the way in: has the source failed too often; which certificate came. On the way out: an error becomes a gRPC status
with code and hint, and every refusal is counted and audited. A source that is barred is counted only, after one entry
that says so: who is turned away must not be able to fill the audit log.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import grpc
import structlog
from cryptography import x509

from contract.enrolment_pb2 import EnrollRequest
from contract.errors import BoroughError
from contract.names import is_region
from controlplane.admin.refusals import INTERNAL, INTERNAL_CODE, Refusal, refusal_of
from controlplane.audit import AuditLog
from controlplane.enrolment.attempts import FailedAttempts, source_of
from controlplane.enrolment.errors import EnrolmentError, NodeUnknownError, TokenUnknownError, TooManyAttemptsError
from controlplane.enrolment.metrics import ACCEPTED, EnrolmentMetrics
from controlplane.enrolment.tokens import read_token
from controlplane.errors import ControlPlaneError

log = structlog.get_logger(__name__)

NODE_ACTOR = "node"
UNNAMED = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorContext:
    """What a servicer learns of who asks. `agent` is the URI of the client certificate, empty without one."""

    source: str
    agent: str


class GrpcContext(Protocol):
    """What the door needs of a gRPC context."""

    def peer(self) -> str: ...

    def auth_context(self) -> dict[str, list[bytes]]: ...

    async def abort(self, code: object, details: str, trailing_metadata: tuple[tuple[str, str], ...]) -> None: ...


class CallDetails(Protocol):
    """What gRPC says of a call before its handler is known."""

    method: str


Behaviour = Callable[[object, DoorContext], Awaitable[object]]


def agent_of(context: DoorContext) -> str:
    """The name in the client certificate. Raises NodeUnknownError."""
    if not context.agent:
        raise NodeUnknownError("the request came without a client certificate of a node")
    return context.agent


class Door(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpcio has no types
    """Lets requests through to the handlers of one servicer."""

    def __init__(
        self,
        handlers: Sequence[grpc.GenericRpcHandler],
        audit: AuditLog,
        attempts: FailedAttempts,
        metrics: EnrolmentMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handlers = handlers
        self._audit = audit
        self._attempts = attempts
        self._metrics = metrics
        self._clock = clock

    def service(self, details: CallDetails) -> grpc.RpcMethodHandler | None:
        """Called by gRPC for every request."""
        for candidate in self._handlers:
            handler = candidate.service(details)
            if handler is not None:
                return grpc.unary_unary_rpc_method_handler(
                    self._guarded(details.method.rpartition("/")[2], handler.unary_unary),
                    request_deserializer=handler.request_deserializer,
                    response_serializer=handler.response_serializer,
                )
        return None

    def _guarded(self, method: str, behaviour: Behaviour) -> Callable[[object, GrpcContext], Awaitable[object]]:
        async def answer(request: object, context: GrpcContext) -> object:
            who = DoorContext(source=source_of(context.peer()), agent=_agent(context))
            try:
                self._admit(who)
                reply = await behaviour(request, who)
            except BoroughError as error:
                await _abort(context, await self._refuse(method, request, who, error))
            except Exception:  # our bug
                log.exception("enrolment_request_failed", method=method)
                self._metrics.attempts.labels(method, INTERNAL_CODE).inc()
                await _abort(context, INTERNAL)
            else:
                self._metrics.attempts.labels(method, ACCEPTED).inc()
                return reply
            return None

        return answer

    def _admit(self, who: DoorContext) -> None:
        if self._attempts.is_barred(who.source, self._clock()):
            raise TooManyAttemptsError("too many attempts failed from this address")

    async def _refuse(self, method: str, request: object, who: DoorContext, error: BoroughError) -> Refusal:
        self._metrics.attempts.labels(method, error.code).inc()
        if isinstance(error, TooManyAttemptsError):
            return refusal_of(error)
        log.warning("enrolment_refused", method=method, code=error.code, source=who.source)
        await self._note(f"enrolment.{method.lower()}", _target(request, who), error.code)
        if isinstance(error, EnrolmentError) and self._attempts.add(who.source, self._clock()):
            self._metrics.barred.inc()
            await self._note("enrolment.barred", f"from {who.source}", TooManyAttemptsError.code)
        return refusal_of(error)

    async def _note(self, action: str, target: str, outcome: str) -> None:
        try:
            await self._audit.append(actor=NODE_ACTOR, role="", action=action, target=target, outcome=outcome)
        except ControlPlaneError as failure:  # the lease is lost, or the disk is full: the node still gets its answer
            log.warning("refusal_not_audited", action=action, outcome=outcome, error=failure.code)


async def _abort(context: GrpcContext, refusal: Refusal) -> None:
    await context.abort(refusal.status, refusal.message, refusal.metadata)


def _agent(context: GrpcContext) -> str:
    """The one URI of the client certificate; the TLS layer has verified its chain."""
    certificates = context.auth_context().get("x509_pem_cert", [])
    if not certificates:
        return ""
    try:
        extension = x509.load_pem_x509_certificate(bytes(certificates[0])).extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except (x509.ExtensionNotFound, ValueError):
        return ""
    uris = extension.value.get_values_for_type(x509.UniformResourceIdentifier)
    return uris[0] if len(uris) == 1 else ""


def _target(request: object, who: DoorContext) -> str:
    """What was tried, with nothing in it that is not a name, an address or a token's public part."""
    if not isinstance(request, EnrollRequest):
        return f"{who.agent or UNNAMED} from {who.source}"
    region, node = (name if is_region(name) else UNNAMED for name in (request.region, request.node))
    try:
        token = read_token(request.token).id
    except TokenUnknownError:
        token = UNNAMED
    return f"{region}/{node} token {token} from {who.source}"
