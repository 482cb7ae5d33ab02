"""When the certificates of a machine end, whoever uses them."""

from collections.abc import Iterator
from pathlib import Path

from cryptography import x509
from prometheus_client.core import GaugeMetricFamily

AUTHORITY = "authority"
EXPIRES = "borough_identity_expires_timestamp_seconds"


def read_identity(directory: Path) -> Iterator[GaugeMetricFamily]:
    """Every role's current certificate in `directory` (/etc/borough/identity). Raises OSError or ValueError."""
    ends = GaugeMetricFamily(EXPIRES, "When the certificate of a role ends", labels=("role",))
    files = {path.parents[1].name: path for path in directory.glob("*/current/certificate.pem")}
    for role, path in sorted({**files, AUTHORITY: directory / "authority.pem"}.items()):
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        ends.add_metric((role,), certificate.not_valid_after_utc.timestamp())
    yield ends
