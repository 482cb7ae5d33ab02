"""`python -m provisioning.machine_metrics --out FILE`: write a machine's figures for node_exporter to read.

Runs once, as root, by a timer: certificates lie where only root reads. A source that cannot be read is left out and
shown in `borough_machine_metrics_failed`; the others are written.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from provisioning.machine_metrics.identity import read_identity
from provisioning.machine_metrics.nats_server import read_nats
from provisioning.machine_metrics.rotation import read_rotation

SOURCE_ERRORS = (OSError, ValueError)
IDENTITY = Path("/etc/borough/identity")
FAILED = "borough_machine_metrics_failed"
MONITOR_URL = "http://127.0.0.1:8222"

Source = Callable[[], Iterable[Metric]]


class MachineCollector(Collector):
    """Asks every source once; what a broken one told before it broke counts."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        failed = GaugeMetricFamily(FAILED, "1 while a source of a machine's figures fails", labels=("source",))
        for name, read in self._sources.items():
            has_failed = False
            try:
                yield from list(read())
            except SOURCE_ERRORS as error:
                sys.stderr.write(f"{name}: {type(error).__name__}: {error}\n")
                has_failed = True
            failed.add_metric((name,), float(has_failed))
        yield failed


def machine_registry(sources: Mapping[str, Source]) -> CollectorRegistry:
    """A registry of its own; reading it asks every source."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(MachineCollector(sources))
    return registry


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m provisioning.machine_metrics", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    sources: dict[str, Source] = {
        "identity": lambda: read_identity(IDENTITY),
        "nats": lambda: read_nats(MONITOR_URL),
        "rotation": read_rotation,
    }
    # Written beside its place and renamed: node_exporter never reads half of it.
    write_to_textfile(str(arguments.out), machine_registry(sources))


if __name__ == "__main__":
    main()
