"""Every metric that exists: what alerts, dashboards and pages may ask for."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from controlplane.enrolment.metrics import EnrolmentMetrics
from controlplane.metrics import HubMetrics
from controlplane.rollups.metrics import RollupMetrics
from edge.disk.guard import DiskMetrics
from edge.inference.metrics import queue_registry
from edge.inference.route_metrics import RouteCollector, RouteCounts
from edge.observability.metrics import CallMetrics
from edge.replication.metrics import ReplicationMetrics
from edge.sync.alarms import Alarms
from edge.sync.expiry import CertificateWatch
from edge.sync.metrics import SyncMetrics
from provisioning.identity.authority_service.metrics import AuthorityMetrics
from provisioning.machine_metrics.__main__ import FAILED
from provisioning.machine_metrics.identity import EXPIRES
from provisioning.machine_metrics.nats_server import COPIES_BEHIND, HEALTHY, LINKS, STREAM_LIMIT, STREAM_SIZE
from provisioning.machine_metrics.rotation import OUT_OF_SERVICE
from tests.ansible.observability.rendering import ROOT

ROLES = ROOT / "ansible" / "roles"
HERE = Path(__file__).parent
# What Prometheus shows of itself and of its targets, and what it makes of alerts.
PROMETHEUS = {
    "ALERTS",
    "up",
    "prometheus_config_last_reload_successful",
    "prometheus_notifications_alertmanagers_discovered",
    "prometheus_notifications_errors_total",
    "prometheus_rule_evaluation_failures_total",
    "prometheus_tsdb_wal_corruptions_total",
}
MACHINE = {FAILED, EXPIRES, OUT_OF_SERVICE, HEALTHY, LINKS, STREAM_SIZE, STREAM_LIMIT, COPIES_BEHIND}
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}

# Words of PromQL that stand where a name could.
WORDS = {
    "and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "offset", "bool", "inf",
}  # fmt: skip
_NOT_NAMES = re.compile(
    r"\"[^\"]*\"|\{[^{}]*\}|\[[^\]]*\]|\b(?:by|on|without|ignoring|group_left|group_right) *\([^)]*\)"
    r"|\boffset +\w+"
)
_NAME = re.compile(r"(?<![\w:.])[a-zA-Z_][\w:]*(?![\w:]*\s*\()")


def metrics_in(promql: str) -> set[str]:
    """The names of metrics that an expression asks for."""
    return set(_NAME.findall(_NOT_NAMES.sub(" ", promql))) - WORDS


def existing() -> set[str]:
    """All metrics of a region and its hub."""
    captured = (HERE / "node_exporter_metrics.txt").read_text("utf-8").splitlines()
    machine = {*captured} - {line for line in captured if line.startswith("#")}
    return {*_names(registries()), *MACHINE, *_of_the_front_door(), *machine, *PROMETHEUS}


def registries() -> tuple[CollectorRegistry, ...]:
    """One for each of our services, with every metric that it registers."""
    calls, agent, hub = CallMetrics.create().registry, SyncMetrics.create().registry, HubMetrics.create().registry
    calls.register(
        RouteCollector(lambda: RouteCounts(served=Counter(), hedges=Counter(), failovers=Counter(), endpoints=()))
    )
    CertificateWatch({}, Alarms(agent), agent)
    DiskMetrics.create(agent)
    RollupMetrics.create(hub)
    EnrolmentMetrics.create(hub)
    replication, authority = ReplicationMetrics.create().registry, AuthorityMetrics.create().registry
    return (calls, agent, replication, queue_registry(list), hub, authority)


def _names(of: Iterable[CollectorRegistry]) -> set[str]:
    families = (family for registry in of for family in registry.collect())
    return {family.name + suffix for family in families for suffix in SUFFIXES[family.type]}


def _of_the_front_door() -> set[str]:
    """As Kamailio's settings and the scripts of the roles name them."""
    kamailio = (ROLES / "front_door" / "templates" / "kamailio.cfg.j2").read_text("utf-8")
    counters = yaml.safe_load((ROLES / "front_door" / "vars" / "main.yml").read_text("utf-8"))["_front_door_counters"]
    names = {f"borough_front_door_{name}_total" for name, _, _ in counters}
    names |= {f"borough_front_door_{name}" for name in re.findall(r'"prom_gauge", "name=(\w+)', kamailio)}
    scripts = [path for role in ("front_door", "firewall") for path in (ROLES / role).rglob("*") if path.is_file()]
    texts = [path.read_text("utf-8", errors="replace") for path in scripts]
    return names | {name for text in texts for name in re.findall(r"# TYPE (borough_\w+)", text)}
