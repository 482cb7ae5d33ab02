"""Connections to the region's NATS: made in the background, made again for ever, never awaited by what serves calls."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path

import nats.errors
import structlog
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from edge.sync.settings import CertificateSection, NatsSection

log = structlog.get_logger(__name__)

REQUEST_WITHIN_S = 2.0
_CONNECT_WITHIN_S = 3
_RECONNECT_WAIT_S = 1
_PING_INTERVAL_S = 5
_CLOSES_WITHIN_S = 3.0
# What went wrong on the way to NATS, whoever noticed: all of it means "try again".
NATS_ERRORS = (nats.errors.Error, OSError, TimeoutError)
# What reading an answer raises that is not what the server's documentation says.
MALFORMED = (ValueError, LookupError, TypeError, AttributeError)


def raise_if_cancelled() -> None:
    """Makes a cancellation count that nats-py swallowed: for every round of an endless loop. Raises CancelledError.

    It uses Python 3.11's `asyncio.wait_for` for every request, which returns its result and forgets a cancellation
    that comes with it (python/cpython#86296).
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class NatsLink:
    """One user's connection; its JetStream is the region's."""

    def __init__(
        self,
        name: str,
        settings: NatsSection,
        certificate: CertificateSection | None,
        *,
        inbox_prefix: str = "_INBOX",
        on_error: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self.name = name
        self.client = Client()
        self._settings = settings
        self._certificate = certificate
        self._inbox_prefix = inbox_prefix
        self._on_error = on_error
        self._connected = asyncio.Event()
        self._tls = _tls_context(settings.ca, certificate)

    @property
    def is_up(self) -> bool:
        """Whether the connection stands now."""
        return bool(self.client.is_connected)

    async def ready(self) -> JetStreamContext:
        """Wait for the first connection; requests then go to the region's JetStream."""
        await self._connected.wait()
        return self.client.jetstream(timeout=REQUEST_WITHIN_S)

    async def publish_to_hub(self, subject: str, payload: bytes, *, message_id: str = "") -> None:
        """Publish into a stream of the hub and wait until it is stored. Raises NATS_ERRORS."""
        await self._connected.wait()
        headers = {"Nats-Msg-Id": message_id} if message_id else None
        await self.client.jetstream(timeout=REQUEST_WITHIN_S).publish(subject, payload, headers=headers)

    async def run(self) -> None:
        """Keep the connection; ends only by cancellation."""
        try:
            await self.client.connect(
                servers=list(self._settings.urls),
                name=self.name,
                tls=self._tls,
                inbox_prefix=self._inbox_prefix,
                connect_timeout=_CONNECT_WITHIN_S,
                reconnect_time_wait=_RECONNECT_WAIT_S,
                max_reconnect_attempts=-1,
                ping_interval=_PING_INTERVAL_S,
                dont_randomize=True,
                error_cb=self._failed,
                disconnected_cb=self._disconnected,
                reconnected_cb=self._reconnected,
            )
            raise_if_cancelled()
            self._connected.set()
            log.info("nats_connected", link=self.name)
            await asyncio.Event().wait()
        finally:
            # nats-py writes what still waits, also where the server is gone and TLS has let go of its transport.
            with contextlib.suppress(*NATS_ERRORS, AttributeError):
                # It waits until TLS is closed from both sides: for ever, where the server stands still.
                async with asyncio.timeout(_CLOSES_WITHIN_S):
                    await self.client.close()

    async def _failed(self, error: Exception) -> None:
        log.debug("nats_error", link=self.name, detail=type(error).__name__)
        self._on_error(error)
        if not self.is_up:  # the last look may have met a certificate half written
            self._reload_certificate()

    async def _disconnected(self) -> None:
        if self._connected.is_set():
            log.warning("nats_disconnected", link=self.name)
        # A rotated certificate counts from the next connection on.
        self._reload_certificate()

    async def _reconnected(self) -> None:
        log.info("nats_reconnected", link=self.name)

    def _reload_certificate(self) -> None:
        try:
            _load_certificate(self._tls, self._certificate)
        except OSError as error:
            log.warning("certificate_unreadable", link=self.name, detail=type(error).__name__)


def _tls_context(ca: Path | None, certificate: CertificateSection | None) -> ssl.SSLContext | None:
    if ca is None:
        return None
    context = ssl.create_default_context(cafile=str(ca))
    _load_certificate(context, certificate)
    return context


def _load_certificate(context: ssl.SSLContext | None, certificate: CertificateSection | None) -> None:
    if context is not None and certificate is not None:
        context.load_cert_chain(certificate.certificate, certificate.key)
