"""The gRPC server of the admin API: mutual TLS, client certificates required."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from contract.errors import Blame
from controlplane.admin.gate import Gate
from controlplane.errors import ControlPlaneError

# A folder of many tenants in one apply; bulk goes in streams of small messages.
MESSAGE_BYTES = 32 * 1024 * 1024
OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    # Else a second instance on the same port would take half of the requests.
    ("grpc.so_reuseport", 0),
)


class AdminServerError(ControlPlaneError):
    """The admin API cannot be served: its certificate is unreadable, or its port is taken."""

    code = "hub.admin_server"
    blame = Blame.OPERATOR
    hint = "Look at the [admin] section of hub.toml."


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminAddress:
    """Where the API listens, and with which files. Port 0 takes a free one."""

    host: str
    port: int
    authority: Path
    certificate: Path
    key: Path


@dataclass(slots=True, kw_only=True)
class RunningServer:
    """A server that listens."""

    port: int
    server: grpc.aio.Server

    async def drain(self, grace_s: float) -> None:
        """Take no new requests, let running ones end."""
        await self.server.stop(grace_s)


@contextlib.asynccontextmanager
async def admin_server(address: AdminAddress, gate: Gate) -> AsyncIterator[RunningServer]:
    """Serve until the context ends. Raises AdminServerError."""
    try:
        pair = (address.key.read_bytes(), address.certificate.read_bytes())
        authority = address.authority.read_bytes()
    except OSError as error:
        raise AdminServerError(f"{error.filename}: {error.strerror}") from error
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((gate,))
    credentials = grpc.ssl_server_credentials([pair], root_certificates=authority, require_client_auth=True)
    try:
        port = server.add_secure_port(f"{address.host}:{address.port}", credentials)
    except RuntimeError as error:
        raise AdminServerError(f"{address.host}:{address.port}: {error}") from error
    await server.start()
    try:
        yield RunningServer(port=port, server=server)
    finally:
        await server.stop(None)
