"""The hub tells when its own certificates end: those of files, and the one that its nats-server shows."""

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path

from controlplane import expiry
from controlplane.expiry import CERTIFICATE_EXPIRING, EXPIRING_BELOW_S, CertificateWatch
from controlplane.metrics import HubMetrics
from provisioning.identity.names import ServiceRole
from tests.nats_network import eventually, nats_network

DAY_S = 86_400.0


def alarm(metrics: HubMetrics) -> float | None:
    return metrics.registry.get_sample_value("borough_hub_alarm", {"code": CERTIFICATE_EXPIRING})


def left(metrics: HubMetrics, role: str) -> float | None:
    return metrics.registry.get_sample_value("borough_hub_certificate_expires_seconds", {"role": role})


async def test_certificates_that_end_soon_are_an_alarm(tmp_path: Path) -> None:
    metrics = HubMetrics.create()
    async with nats_network(tmp_path, {"in-south": 1}) as network:
        name = network.hub.service(ServiceRole.CONTROLPLANE)
        store = network.deployment.identities
        files = {
            "nats": store.certificate_file(name),
            "authority": store.authority_file,
            "admin": tmp_path / "not-there.pem",
        }
        watch = CertificateWatch(files, f"http://127.0.0.1:{network.hub.monitor_port}", metrics)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(watch.run())

            async def is_seen() -> bool:
                return left(metrics, expiry.SERVER) is not None

            await eventually(is_seen)
            running.cancel()
        for role in ("nats", "authority", expiry.SERVER):
            remaining = left(metrics, role)
            assert remaining is not None
            assert remaining > EXPIRING_BELOW_S
        assert left(metrics, "admin") is None
        assert alarm(metrics) == 0

        ends = time.time() + min(left(metrics, role) or 0 for role in ("nats", "server"))
        watch.show(ends - EXPIRING_BELOW_S + DAY_S)
        assert alarm(metrics) == 1
        # Rotated.
        store.issue(name, datetime.now(UTC))
        watch.show(time.time())
        assert alarm(metrics) == 0
