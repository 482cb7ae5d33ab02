"""The hub's connection to its nats-server: mutual TLS, reconnects for ever, says so in the log.

A rotated certificate counts from the next connection on: the server closes those of a generation that it forgets.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import nats
import structlog
from nats.aio.client import Client

from controlplane.errors import NatsUnavailableError
from controlplane.settings import NatsSection

log = structlog.get_logger(__name__)

RECONNECT_WAIT_S = 1
PING_INTERVAL_S = 2
OUTSTANDING_PINGS = 2
CONNECT_WITHIN_S = 5
NOTHING_WAITS_BYTES = 0
CLOSES_WITHIN_S = 3.0


@dataclass(slots=True, kw_only=True)
class Bus:
    """A connection, and who wants to know that it was interrupted."""

    client: Client
    on_reconnect: list[Callable[[], None]] = field(default_factory=list)


@contextlib.asynccontextmanager
async def open_bus(section: NatsSection) -> AsyncIterator[Bus]:
    """Connect, waiting for a server that is not there yet. Raises NatsUnavailableError for unusable certificates."""
    bus, tls = Bus(client=Client()), _tls(section)

    async def failed(error: Exception) -> None:
        log.warning("nats_error", error=type(error).__name__, detail=str(error))
        if not bus.client.is_connected:  # the files may have been half written before
            _load_again(tls, section)

    async def disconnected() -> None:
        log.warning("nats_disconnected")
        _load_again(tls, section)

    async def reconnected() -> None:
        log.info("nats_reconnected")
        for told in bus.on_reconnect:
            told()

    try:
        await bus.client.connect(
            section.url,
            tls=tls,
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT_S,
            ping_interval=PING_INTERVAL_S,
            max_outstanding_pings=OUTSTANDING_PINGS,
            connect_timeout=CONNECT_WITHIN_S,
            # Nothing waits for a connection that comes back: by then the lease may be another's.
            pending_size=NOTHING_WAITS_BYTES,
            error_cb=failed,
            disconnected_cb=disconnected,
            reconnected_cb=reconnected,
        )
    except (nats.errors.Error, OSError) as error:
        raise NatsUnavailableError(f"{section.url}: {error}") from error
    try:
        yield bus
    finally:
        # nats-py drains a socket that is gone, and waits until TLS is closed from both sides: a server may stand still.
        # It writes what still waits, also where TLS has let go of its transport.
        with contextlib.suppress(OSError, TimeoutError, AttributeError):
            async with asyncio.timeout(CLOSES_WITHIN_S):
                await bus.client.close()


def _load_again(context: ssl.SSLContext | None, section: NatsSection) -> None:
    if context is None or section.certificate is None or section.key is None:
        return
    try:
        context.load_cert_chain(section.certificate, section.key)
    except OSError as error:  # also ssl.SSLError
        log.warning("certificate_unreadable", detail=type(error).__name__)


def _tls(section: NatsSection) -> ssl.SSLContext | None:
    if section.authority is None or section.certificate is None or section.key is None:
        return None
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(section.authority))
        context.load_cert_chain(section.certificate, section.key)
    except OSError as error:  # also ssl.SSLError
        raise NatsUnavailableError(f"[nats] certificate: {error}") from error
    return context
