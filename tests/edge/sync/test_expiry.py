"""A certificate that ends soon is an alarm, until it is rotated."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from contract.alarms import AlarmCode
from edge.sync import expiry
from edge.sync.alarms import Alarms
from edge.sync.expiry import CertificateWatch
from edge.sync.settings import CertificateSection
from provisioning.identity.names import ServiceName, ServiceRole
from provisioning.identity.store import IdentityStore
from tests.edge.replication.conftest import running, until

AGENT = ServiceName(site="in-south", node="in-south-1", role=ServiceRole.AGENT)
BORDER = ServiceName(site="in-south", node="in-south-1", role=ServiceRole.BORDER)


async def test_a_certificate_that_ends_soon_is_an_alarm_until_it_is_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "LOOK_EVERY_S", 0.05)
    store, now = IdentityStore(tmp_path), datetime.now(UTC)
    store.init(now)
    store.issue(AGENT, now, days=20.5)
    store.issue(BORDER, now, days=22)
    sections = {
        str(name.role): CertificateSection(certificate=store.certificate_file(name), key=store.key_file(name))
        for name in (AGENT, BORDER)
    }
    registry = CollectorRegistry()
    alarms = Alarms(registry)
    watch = CertificateWatch({**sections, "system": None}, alarms, registry)
    async with running(watch.run()):
        await until(lambda: alarms.raised() == (AlarmCode.CERTIFICATE_EXPIRING,), within_s=5.0)
        days = registry.get_sample_value("borough_certificate_expires_seconds", {"role": "agent"})
        assert days is not None
        assert days / 86_400 == pytest.approx(20.5, abs=0.1)
        store.issue(AGENT, now, days=180)
        store.switch(AGENT)
        await until(lambda: alarms.raised() == (), within_s=5.0)
