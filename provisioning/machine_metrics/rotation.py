"""Whether the machine takes calls, and who said that it must not."""

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily

OUT_OF_SERVICE = "borough_out_of_service"
# Who takes a node out of service, and the file that says so.
MARKERS = {
    "node": Path("/run/borough/cordon"),
    "hub": Path("/var/lib/borough/sync/current/cordoned"),
    "partition": Path("/var/lib/borough/sync/isolated"),
}


def read_rotation(root: Path = Path("/")) -> Iterator[GaugeMetricFamily]:
    """1 for each of those who keep calls away."""
    out = GaugeMetricFamily(OUT_OF_SERVICE, "1 while new calls are refused on purpose", labels=("by",))
    for who, marker in MARKERS.items():
        out.add_metric((who,), float((root / marker.relative_to("/")).exists()))
    yield out
