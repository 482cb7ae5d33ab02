"""The authority, put together: socket and metrics, until a signal."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import structlog

from contract.authority_pb2_grpc import add_AuthorityServicer_to_server
from provisioning.identity.authority_service.metrics import AuthorityMetrics, metrics_server
from provisioning.identity.authority_service.servicer import Authority
from provisioning.identity.authority_service.settings import AuthoritySettings
from provisioning.identity.authority_service.supervision import serving
from provisioning.identity.errors import IdentityError
from provisioning.identity.signing import NodeSigning
from provisioning.identity.store import IdentityStore

log = structlog.get_logger(__name__)

# Seven roles of a node, a few hundred bytes each.
MESSAGE_BYTES = 256 * 1024
DRAIN_S = 5.0
SOCKET_MODE = 0o660


class AuthoritySocketError(IdentityError):
    """The socket cannot be made."""

    code = "identity.socket"
    hint = "Look at `socket` in authority.toml; its folder must be there and belong to the service."


async def serve(settings: AuthoritySettings) -> None:
    """Serve until SIGTERM or SIGINT. Raises IdentityError when store or socket are not what they should be."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = AuthorityMetrics.create()
    store = IdentityStore(settings.authority.store)
    # Not at the first request: an operator is to see at the start that the folder is not the right one.
    await asyncio.to_thread(store.authority)
    authority = Authority(NodeSigning(store), metrics)
    await authority.count()
    async with AsyncExitStack() as stack:
        section = settings.metrics
        await stack.enter_async_context(metrics_server(metrics, section.host, section.port))
        await stack.enter_async_context(authority_server(authority, settings.authority.socket))
        stack.enter_context(serving("signing for nodes"))
        log.info("authority_listening", socket=str(settings.authority.socket))
        await stop.wait()
        log.info("authority_stopping")


@contextlib.asynccontextmanager
async def authority_server(authority: Authority, socket: Path) -> AsyncIterator[None]:
    """Answer on the socket until the context ends. Raises AuthoritySocketError."""
    server = grpc.aio.server(options=(("grpc.max_receive_message_length", MESSAGE_BYTES),))
    add_AuthorityServicer_to_server(authority, server)
    _bind(server, socket)
    await server.start()
    try:
        yield
    finally:
        await server.stop(DRAIN_S)


def _bind(server: grpc.aio.Server, socket: Path) -> None:
    try:
        server.add_insecure_port(f"unix:{socket.absolute()}")
        socket.chmod(SOCKET_MODE)
    except (RuntimeError, OSError) as error:
        raise AuthoritySocketError(f"{socket}: {error}") from error
