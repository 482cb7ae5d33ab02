"""What only root can tell of a machine is written for node_exporter, each source by itself."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import nats
import pytest
from prometheus_client import generate_latest
from prometheus_client.core import Metric

from provisioning.identity.certificates import new_authority, new_key, service_order
from provisioning.identity.names import ServiceName, ServiceRole
from provisioning.machine_metrics.__main__ import machine_registry
from provisioning.machine_metrics.identity import read_identity
from provisioning.machine_metrics.nats_server import read_nats, streams_of
from provisioning.machine_metrics.rotation import read_rotation

NATS_SERVER = Path(sys.executable).parent / "nats-server"
READY_WITHIN_S = 10.0


def shown(*metrics: Metric) -> str:
    return generate_latest(machine_registry({"it": lambda: metrics})).decode()


def test_every_roles_certificate_tells_its_end(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    authority = new_authority("test", now)

    def certificate(role: ServiceRole, days: float) -> bytes:
        order = service_order(ServiceName(site="in-south", node="one", role=role), 1, (), days)
        return authority.certify(order, new_key().public_key(), now).certificate

    for role in (ServiceRole.SERVER, ServiceRole.AGENT):
        (tmp_path / role / "1").mkdir(parents=True)
        (tmp_path / role / "1" / "certificate.pem").write_bytes(certificate(role, 10))
        (tmp_path / role / "current").symlink_to("1")
    (tmp_path / "authority.pem").write_bytes(certificate(ServiceRole.LEAF, 5))
    (metric,) = read_identity(tmp_path)
    ends = {sample.labels["role"]: sample.value - now.timestamp() for sample in metric.samples}
    assert ends.keys() == {"server", "agent", "authority"}
    assert ends["agent"] == pytest.approx(10 * 86_400, abs=2)


@pytest.fixture
def monitored(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A server with JetStream; its address, and that of its monitoring port."""
    arguments = ("-a", "127.0.0.1", "-p", "-1", "-m", "-1", "-js", "-sd", str(tmp_path))
    with subprocess.Popen(
        [NATS_SERVER, *arguments, "--ports_file_dir", str(tmp_path)], stderr=subprocess.DEVNULL
    ) as server:
        try:
            yield _addresses(tmp_path / f"nats-server_{server.pid}.ports")
        finally:
            server.terminate()
            server.wait(10)


def _addresses(ports: Path) -> tuple[str, str]:
    deadline = time.monotonic() + READY_WITHIN_S
    while not ports.exists() or not ports.read_text():
        assert time.monotonic() < deadline, "nats-server did not start"
        time.sleep(0.02)
    found = json.loads(ports.read_text())
    return found["nats"][0], found["monitoring"][0]


async def _fill(url: str) -> None:
    client = await nats.connect(url)
    try:
        jetstream = client.jetstream()
        await jetstream.add_stream(name="ROLLUPS", subjects=["a"], max_bytes=1_000_000, discard="new")
        await jetstream.add_stream(name="BOUNDLESS", subjects=["b"])
        await jetstream.publish("a", bytes(1_000))
    finally:
        await client.close()


def test_streams_tell_their_size_and_bound(monitored: tuple[str, str]) -> None:
    address, monitor = monitored
    asyncio.run(_fill(address))
    text = shown(*read_nats(monitor))
    assert "borough_nats_healthy 1.0" in text
    assert 'borough_nats_links{kind="leaf"} 0.0' in text
    assert 'borough_nats_links{kind="sibling"} 0.0' in text
    labels = 'account="$G",stream="ROLLUPS",when_full="new"'
    assert f"borough_jetstream_stream_limit_bytes{{{labels}}} 1e+06" in text
    size = next(line for line in text.splitlines() if line.startswith(f"borough_jetstream_stream_bytes{{{labels}}}"))
    assert 1_000 < float(size.rpartition(" ")[2]) < 2_000
    assert 'borough_jetstream_stream_limit_bytes{account="$G",stream="BOUNDLESS"' not in text
    assert f"borough_jetstream_copies_behind{{{labels}}} 0.0" in text


@pytest.mark.parametrize(("server", "behind"), [("node-1", 1), ("node-2", 0)])
def test_copies_are_behind_where_the_leader_says_so(server: str, behind: int) -> None:
    """A follower never calls the other one current, and knows nothing of it."""
    replicas = [{"name": "node-2", "current": True}, {"name": "node-3", "current": False}]
    detail = {
        "config": {"name": "KV_calls", "discard": "new", "max_bytes": 1},
        "state": {"bytes": 1},
        "cluster": {"leader": "node-1", "replicas": replicas},
    }
    (stream,) = streams_of({"account_details": [{"name": "REGION", "stream_detail": [detail]}]}, server)
    assert stream.copies_behind == behind


def test_a_source_that_fails_is_counted_and_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run/borough").mkdir(parents=True)
    (tmp_path / "run/borough/cordon").touch()
    registry = machine_registry(
        {"nats": lambda: read_nats("http://127.0.0.1:9"), "rotation": lambda: read_rotation(tmp_path)}
    )
    text = generate_latest(registry).decode()
    assert 'borough_machine_metrics_failed{source="nats"} 1.0' in text
    assert 'borough_machine_metrics_failed{source="rotation"} 0.0' in text
    assert 'borough_out_of_service{by="node"} 1.0' in text
    assert 'borough_out_of_service{by="hub"} 0.0' in text
    assert 'borough_out_of_service{by="partition"} 0.0' in text
    assert "nats: URLError" in capsys.readouterr().err
