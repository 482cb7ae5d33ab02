"""The door for call workers of sibling nodes: a second server, mutual TLS, in front of the same models.

Who comes in: a certificate of the hub's authority (TLS checks it), in the role `calls`, of another node of this region,
with the very URI and key that the roster names; so one that was revoked, renewed or belongs to another region is
refused at its next request, also on a connection that stands. What they may call is a list. How much: a number of
requests at once here, a share of each model in its gate, behind what this node's own callers wait for.
"""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from functools import lru_cache
from typing import NoReturn, Protocol

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from contract import inference_pb2_grpc as pb_grpc
from edge.inference.errors import NotASiblingError, SiblingAccessError
from edge.inference.identity import read_identity
from edge.inference.metrics import DoorCounts
from edge.inference.region_roster import RegionRoster
from edge.inference.service import MAX_MESSAGE_BYTES, InferenceService
from edge.inference.settings import SiblingsSettings

SERVICE = "/borough.inference.v1.Inference/"
ALLOWED = frozenset({"Recognise", "Synthesise", "Generate", "Embed", "Health"})
# A node without power says nothing: its requests are given up after this much silence.
KEEPALIVE_S, KEEPALIVE_WITHIN_S = 5.0, 2.0

log = structlog.get_logger(__name__)


class PeerContext(Protocol):
    """What we use of grpc.aio.ServicerContext, which has no types of its own."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What TLS found out about the peer."""

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str], ...]
    ) -> NoReturn:
        """End the RPC with an error."""


class CallDetails(Protocol):
    """What gRPC says of a call before its handler is known."""

    method: str


Unary = Callable[[object, PeerContext], Awaitable[object]]
Streaming = Callable[[object, PeerContext], AsyncGenerator[object, None]]


class SiblingGuard(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpcio has no types
    """Lets only call workers of siblings through, and only to what they need."""

    def __init__(self, roster: RegionRoster, counts: DoorCounts) -> None:
        self._roster = roster
        self._counts = counts
        self._logged = ""

    async def intercept_service(
        self,
        continuation: Callable[[CallDetails], Awaitable[grpc.RpcMethodHandler | None]],
        handler_call_details: CallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """Wrap the handler of an allowed method; any other does not exist."""
        if handler_call_details.method.removeprefix(SERVICE) not in ALLOWED:
            return None
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(self._guarded_stream(handler.unary_stream), **codec)
        return grpc.unary_unary_rpc_method_handler(self._guarded(handler.unary_unary), **codec)

    def _guarded(self, behaviour: Unary) -> Unary:
        async def answer(request: object, context: PeerContext) -> object:
            await self._admit(context)
            return await behaviour(request, context)

        return answer

    def _guarded_stream(self, behaviour: Streaming) -> Streaming:
        async def answer(request: object, context: PeerContext) -> AsyncGenerator[object, None]:
            await self._admit(context)
            async with aclosing(behaviour(request, context)) as pieces:
                async for piece in pieces:
                    yield piece

        return answer

    async def _admit(self, context: PeerContext) -> None:
        try:
            node = sibling_of(context.auth_context(), self._roster)
        except NotASiblingError as error:
            self._counts.refused += 1
            # Who is refused may ask again at once, a thousand times.
            if str(error) != self._logged:
                self._logged = str(error)
                log.warning("sibling_refused", reason=str(error))
            await context.abort(
                grpc.StatusCode.PERMISSION_DENIED, str(error), trailing_metadata=(("borough-code", error.code),)
            )
        self._counts.served[node] = self._counts.served.get(node, 0) + 1


def sibling_of(peer: Mapping[str, Iterable[bytes]], roster: RegionRoster) -> str:
    """The node whose call worker has this certificate. Raises NotASiblingError."""
    names = [name.decode(errors="replace") for name in peer.get("x509_subject_alternative_name", ())]
    askers = roster.members().askers
    for uri in names:
        if uri in askers:
            node, pin = askers[uri]
            if pin == _pin(b"".join(peer.get("x509_pem_cert", ()))):
                return node
            raise NotASiblingError(f"{uri} came with another key than the roster names")
    raise NotASiblingError(f"{', '.join(names) or 'a certificate without a name'} is no call worker of a sibling")


@asynccontextmanager
async def sibling_server(
    settings: SiblingsSettings, service: InferenceService, counts: DoorCounts
) -> AsyncIterator[grpc.aio.Server]:
    """Serve siblings inside the block. Raises SiblingAccessError."""
    roster = RegionRoster(settings.roster, region=settings.region, node=settings.node)
    server = grpc.aio.server(
        interceptors=(SiblingGuard(roster, counts),),
        maximum_concurrent_rpcs=settings.requests_at_once,
        options=[
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
            ("grpc.keepalive_time_ms", round(KEEPALIVE_S * 1000)),
            ("grpc.keepalive_timeout_ms", round(KEEPALIVE_WITHIN_S * 1000)),
            # Siblings look whether we live as often as we do.
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", round(KEEPALIVE_S * 500)),
        ],
    )
    pb_grpc.add_InferenceServicer_to_server(service, server)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.port}"
    try:
        server.add_secure_port(address, _credentials(settings))
    except RuntimeError as error:
        raise SiblingAccessError(f"{address}: {error}") from error
    await server.start()
    log.info("siblings_served", address=address)
    try:
        yield server
    finally:
        await server.stop(None)


def _credentials(settings: SiblingsSettings) -> grpc.ServerCredentials:
    own = read_identity(settings.authority, settings.certificate, settings.key)
    return grpc.ssl_server_credentials(
        [(own.key, own.certificate)], root_certificates=own.authority, require_client_auth=True
    )


@lru_cache(maxsize=128)
def _pin(pem: bytes) -> str:
    key = x509.load_pem_x509_certificate(pem).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
