"""Says when the hub's own certificates end, in time to rotate them: no node and no admin comes in afterwards."""

import asyncio
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import aiohttp
import structlog
from cryptography import x509

from controlplane.metrics import HubMetrics
from controlplane.settings import HubSettings

log = structlog.get_logger(__name__)

CERTIFICATE_EXPIRING = "certificate_expiring"
EXPIRING_BELOW_S = 21 * 86_400.0
LOOK_EVERY_S = 60.0
ANSWER_WITHIN_S = 2.0
SERVER = "server"


class CertificateWatch:
    """Looks at the files, by what each is for, and asks the nats-server at `monitor` for what it shows its clients; a
    rotated one counts from the next look on."""

    def __init__(self, files: Mapping[str, Path], monitor: str | None, metrics: HubMetrics) -> None:
        self._files = files
        self._monitor = monitor
        self._metrics = metrics
        self._ends: dict[str, float] = {}
        metrics.alarm.labels(CERTIFICATE_EXPIRING).set(0)

    async def run(self) -> None:
        """Look every minute, until cancelled."""
        while True:
            self._ends |= await asyncio.to_thread(_read_ends, self._files)
            if self._monitor is not None:
                self._ends |= await _server_end(self._monitor)
            self.show(time.time())
            await asyncio.sleep(LOOK_EVERY_S)

    def show(self, now: float) -> None:
        """Bring gauge and alarm up to date with what was read; `now` in seconds since 1970."""
        left = {role: end - now for role, end in self._ends.items()}
        for role, seconds in left.items():
            self._metrics.certificate_expires.labels(role).set(seconds)
        is_raised = any(seconds < EXPIRING_BELOW_S for seconds in left.values())
        self._metrics.alarm.labels(CERTIFICATE_EXPIRING).set(int(is_raised))


def certificates_of(settings: HubSettings) -> dict[str, Path]:
    """The certificates that this instance uses, and the authority that signed them."""
    replication = settings.replication
    found = {
        "nats": settings.nats.certificate,
        "admin": settings.admin.certificate,
        "authority": settings.admin.authority,
        "litestream": replication.certificate if replication is not None else None,
    }
    return {role: path for role, path in found.items() if path is not None}


def _read_ends(files: Mapping[str, Path]) -> dict[str, float]:
    """When each certificate ends, in seconds since 1970; without those that cannot be read."""
    ends: dict[str, float] = {}
    for role, file in files.items():
        try:
            ends[role] = x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()
        except (OSError, ValueError) as error:
            log.warning("certificate_unreadable", role=role, detail=type(error).__name__)
    return ends


async def _server_end(monitor: str) -> dict[str, float]:
    timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session,
            session.get(f"{monitor}/varz") as answer,
        ):
            end = datetime.fromisoformat((await answer.json())["tls_cert_not_after"])
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError) as error:
        # Absent where the server has no TLS: tests on loopback.
        log.debug("server_certificate_not_seen", detail=type(error).__name__)
        return {}
    return {SERVER: end.timestamp()}
