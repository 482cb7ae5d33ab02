"""Debian's exporter-exporter does what the role counts on: observers read, nobody else does."""

import asyncio
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from prometheus_client import CollectorRegistry, Gauge

from edge.observability.serving import serving_metrics
from provisioning.identity.certificates import Authority, new_authority, new_key, private_pem, service_order
from provisioning.identity.names import ServiceName, ServiceRole
from tests.nats_network import free_ports

PROGRAM = shutil.which("prometheus-exporter-exporter") or ""
READY_WITHIN_S = 10.0
# As templates/exporter-exporter.default.j2 gives them to in-south-2, whose observer is in-south-1.
ROLE_OPTIONS = ("-web.tls.verify", "-web.tls.certmatch=^(in-south-1)$", "-allow.net=127.0.0.1/32")

pytestmark = pytest.mark.skipif(not PROGRAM, reason="prometheus-exporter-exporter is not installed")


def write_identity(directory: Path, authority: Authority, node: str) -> Path:
    """Key and certificate of a node's metrics, and the authority's."""
    directory.mkdir()
    key, now = new_key(), datetime.now(UTC)
    name = ServiceName(site="in-south", node=node, role=ServiceRole.METRICS)
    certified = authority.certify(service_order(name, 1, ["127.0.0.1"]), key.public_key(), now)
    (directory / "metrics.pem").write_bytes(certified.certificate)
    (directory / "metrics.key").write_bytes(private_pem(key))
    (directory / "authority.pem").write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    return directory


@pytest.fixture
def identities(tmp_path: Path) -> dict[str, Path]:
    ours, theirs = (new_authority(name, datetime.now(UTC)) for name in ("ours", "theirs"))
    return {
        "observer": write_identity(tmp_path / "observer", ours, "in-south-1"),
        "sibling": write_identity(tmp_path / "sibling", ours, "in-south-2"),
        "foreign": write_identity(tmp_path / "foreign", theirs, "in-south-1"),
    }


@pytest.fixture
def proxied(identities: dict[str, Path], tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The proxy of in-south-2: its address, and the port of the endpoint behind it."""
    tls, plain, behind = free_ports(3)
    config = tmp_path / "modules.yml"
    config.write_text(f"modules:\n  agent: {{method: http, http: {{address: 127.0.0.1, port: {behind}}}}}\n", "utf-8")
    files = {option: identities["sibling"] / name for option, name in _FILES.items()}
    arguments = [f"-web.tls.{option}={path}" for option, path in files.items()]
    addresses = (f"-web.listen-address=127.0.0.1:{plain}", f"-web.tls.listen-address=127.0.0.1:{tls}")
    command = [PROGRAM, f"-config.file={config}", *addresses, *arguments, *ROLE_OPTIONS]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as proxy:
        try:
            yield f"https://127.0.0.1:{tls}", behind
        finally:
            proxy.terminate()
            proxy.wait(10)


_FILES = {"cert": "metrics.pem", "key": "metrics.key", "ca": "authority.pem"}


def tls_of(identity: Path | None, authority: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority / "authority.pem"))
    if identity is not None:
        context.load_cert_chain(identity / "metrics.pem", identity / "metrics.key")
    return context


async def read(url: str, tls: ssl.SSLContext) -> str:
    """The agent's metrics; waits until the proxy listens."""
    timeout = aiohttp.ClientTimeout(total=5)
    deadline = time.monotonic() + READY_WITHIN_S
    async with aiohttp.ClientSession(timeout=timeout) as web:
        while True:
            try:
                async with web.get(f"{url}/proxy?module=agent", ssl=tls) as response:
                    assert response.status == 200
                    return await response.text()
            except aiohttp.ClientConnectorError as error:
                if isinstance(error, aiohttp.ClientSSLError) or time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.05)


async def test_an_observer_reads_through_it(proxied: tuple[str, int], identities: dict[str, Path]) -> None:
    url, port = proxied
    registry = CollectorRegistry()
    Gauge("borough_bundle_version", "Bundle", registry=registry).set(7)
    async with serving_metrics(registry, "127.0.0.1", port):
        text = await read(url, tls_of(identities["observer"], identities["observer"]))
    assert "borough_bundle_version 7.0" in text


@pytest.mark.parametrize("who", ["sibling", "foreign", None])
async def test_nobody_else_does(who: str | None, proxied: tuple[str, int], identities: dict[str, Path]) -> None:
    """A node that does not observe, an observer's name from another authority, somebody without a certificate."""
    url, port = proxied
    async with serving_metrics(CollectorRegistry(), "127.0.0.1", port):
        await read(url, tls_of(identities["observer"], identities["observer"]))
        with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
            await read(url, tls_of(identities[who] if who else None, identities["observer"]))
