"""Says when the certificates of this node end, in time to rotate them: they all end together, at a reconnect."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import structlog
from cryptography import x509
from prometheus_client import CollectorRegistry, Gauge

from contract.alarms import AlarmCode
from edge.sync.settings import CertificateSection

log = structlog.get_logger(__name__)

EXPIRING_BELOW_S = 21 * 86_400.0
LOOK_EVERY_S = 60.0


class AlarmBoard(Protocol):
    def set(self, code: str, *, is_raised: bool) -> None:
        """Raise or clear an alarm; doing it twice changes nothing."""


class CertificateWatch:
    """Looks at the files, by the role that each is for; a rotated one counts from the next look on."""

    def __init__(
        self, certificates: Mapping[str, CertificateSection | None], alarms: AlarmBoard, registry: CollectorRegistry
    ) -> None:
        self._files = {role: section.certificate for role, section in certificates.items() if section is not None}
        self._alarms = alarms
        self._gauge = Gauge(
            "borough_certificate_expires_seconds",
            "Time until the certificate of this role ends",
            ("role",),
            registry=registry,
        )
        self._ends: dict[str, float] = {}

    async def run(self) -> None:
        """Look every minute, until cancelled."""
        while True:
            self._ends |= await asyncio.to_thread(_read_ends, self._files)
            self.show(time.time())
            await asyncio.sleep(LOOK_EVERY_S)

    def show(self, now: float) -> None:
        """Bring gauge and alarm up to date with what was read; `now` in seconds since 1970."""
        left = {role: end - now for role, end in self._ends.items()}
        for role, seconds in left.items():
            self._gauge.labels(role=role).set(seconds)
        self._alarms.set(
            AlarmCode.CERTIFICATE_EXPIRING, is_raised=any(seconds < EXPIRING_BELOW_S for seconds in left.values())
        )


def _read_ends(files: Mapping[str, Path]) -> dict[str, float]:
    """When each certificate ends, in seconds since 1970; without those that cannot be read."""
    ends: dict[str, float] = {}
    for role, file in files.items():
        try:
            ends[role] = x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()
        except (OSError, ValueError) as error:
            log.warning("certificate_unreadable", role=role, detail=type(error).__name__)
    return ends
