"""The enrolment ports: TLS with the hub's certificate, one without a client certificate, one that demands it.

gRPC for Python can demand a client certificate or not ask for one, so there are two. Both lead through the same door.
"""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc

from controlplane.enrolment.door import Door
from controlplane.enrolment.errors import EnrolmentServerError

# Seven requests for certificates are 4 kB; the roster in an answer has some 2 kB a node.
LARGEST_REQUEST_BYTES = 64 * 1024
REQUESTS_AT_ONCE = 32
OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_REQUEST_BYTES),
    # Else a second instance on the same port would take half of the requests.
    ("grpc.so_reuseport", 0),
    # Who only holds connections open takes no room for long.
    ("grpc.max_connection_idle_ms", 30_000),
    ("grpc.max_connection_age_ms", 120_000),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentAddress:
    """Where the ports are, and with which files. Port 0 takes a free one."""

    host: str
    port: int
    renewal_port: int
    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentPorts:
    """The ports that were opened."""

    enrolment: int
    renewal: int


@contextlib.asynccontextmanager
async def enrolment_server(address: EnrolmentAddress, door: Door) -> AsyncIterator[EnrolmentPorts]:
    """Serve until the context ends. Raises EnrolmentServerError."""
    try:
        authority = address.authority.read_bytes()
        # The authority too: a node that has nothing but a token finds it in the chain by the token's fingerprint.
        pair = (address.key.read_bytes(), address.certificate.read_bytes() + authority)
    except OSError as error:
        raise EnrolmentServerError(f"{error.filename}: {error.strerror}") from error
    server = grpc.aio.server(options=OPTIONS, maximum_concurrent_rpcs=REQUESTS_AT_ONCE)
    server.add_generic_rpc_handlers((door,))
    anybody = grpc.ssl_server_credentials([pair])
    nodes = grpc.ssl_server_credentials([pair], root_certificates=authority, require_client_auth=True)
    try:
        ports = EnrolmentPorts(
            enrolment=server.add_secure_port(f"{address.host}:{address.port}", anybody),
            renewal=server.add_secure_port(f"{address.host}:{address.renewal_port}", nodes),
        )
    except RuntimeError as error:
        raise EnrolmentServerError(f"{address.host}: {error}") from error
    await server.start()
    try:
        yield ports
    finally:
        await server.stop(None)
