"""What the observing node of a region sees, and who else sees it."""

import json
import time
from collections.abc import Sequence

import pytest

from provisioning.machines.machine import Machine
from provisioning.machines.region import RegionRehearsal

PROMETHEUS = "http://127.0.0.1:9090"
# Every process of a node, and its two workers.
TARGETS_A_NODE = 7
TARGETS_OF_THE_HUB = 4
SEEN_WITHIN_S = 120.0
MOST_EXPOSURE = 3.0
UNITS = ("prometheus.service", "prometheus-node-exporter.service", "prometheus-exporter-exporter.service")
# Alerts that are true of machines which share two cores and a disk with everything else here.
OF_THE_PLACE = {"Heartbeat", "ProcessorBusy", "MemoryShort", "DiskNearlyFull", "DiskFilling", "ClockUnsynchronised",
                "EventLoopLate", "ResponseTimeRising", "ResponseTimeHigh", "InferenceQueueLong",
                "RegionSlow"}  # fmt: skip


@pytest.fixture(scope="module")
def observer(region: RegionRehearsal) -> Machine:
    """The first node, since the inventory names no other."""
    return region.rehearsal.machines()[1]


def ask(machine: Machine, promql: str) -> list[tuple[dict[str, str], float]]:
    """The answer of the machine's Prometheus."""
    answer = json.loads(machine.run("promtool", "query", "instant", "-o", "json", PROMETHEUS, promql))
    return [(sample["metric"], float(sample["value"][1])) for sample in answer]


def ask_until(machine: Machine, promql: str, count: int) -> list[tuple[dict[str, str], float]]:
    """The answer once it has `count` samples; a scrape comes every 15 s."""
    deadline = time.monotonic() + SEEN_WITHIN_S
    while len(found := ask(machine, promql)) != count and time.monotonic() < deadline:
        time.sleep(2)
    return found


def test_every_process_of_the_region_is_seen(region: RegionRehearsal, observer: Machine) -> None:
    """By the observing node, over TLS, its own among them."""
    wanted = TARGETS_A_NODE * region.plan.nodes
    found = ask_until(observer, 'up{job!="prometheus"} == 1', wanted)
    assert len(found) == wanted, ask(observer, "up == 0")
    assert {metric["instance"] for metric, _ in found} == {place.name for place in region.plan.region_nodes}


def test_the_hub_sees_itself_and_nothing_of_the_region(region: RegionRehearsal) -> None:
    hub = region.rehearsal.machines()[0]
    found = ask_until(hub, 'up{job!="prometheus"} == 1', TARGETS_OF_THE_HUB)
    assert {metric["instance"] for metric, _ in found} == {hub.place.name}
    assert len(found) == TARGETS_OF_THE_HUB


def test_no_alert_fires_on_a_region_that_is_well(region: RegionRehearsal, observer: Machine) -> None:
    for machine in (region.rehearsal.machines()[0], observer):
        firing = {metric["alertname"] for metric, _ in ask(machine, 'ALERTS{alertstate="firing"}')}
        assert "Heartbeat" in firing
        assert firing <= OF_THE_PLACE, ask(machine, 'ALERTS{alertstate="firing"}')


@pytest.mark.parametrize(
    "metric",
    ["borough_identity_expires_timestamp_seconds", "borough_nats_healthy", "borough_out_of_service",
     "node_systemd_unit_state", "node_filesystem_avail_bytes", "borough_firewall_dropped_packets_total",
     "borough_front_door_nodes", "borough_inference_queued"],
)  # fmt: skip
def test_figures_that_alerts_need_are_there(region: RegionRehearsal, observer: Machine, metric: str) -> None:
    """Of every node."""
    assert len(ask_until(observer, f"count by (instance) ({metric})", region.plan.nodes)) == region.plan.nodes


def test_a_sibling_that_does_not_observe_is_refused(region: RegionRehearsal) -> None:
    """With a certificate of the region, at another node's port: the firewall drops it already."""
    asker, asked = region.rehearsal.machines()[2:4]
    identity = "/etc/borough/identity"
    command = [
        *("timeout", "5", "openssl", "s_client", "-connect", f"{asked.place.address}:9443", "-brief"),
        *("-CAfile", f"{identity}/authority.pem", "-cert", f"{identity}/metrics/current/certificate.pem"),
        *("-key", f"{identity}/metrics/current/key.pem"),
    ]
    assert "CONNECTION ESTABLISHED" not in asker.run("sh", "-c", f"{' '.join(command)} </dev/null 2>&1; true")


def test_its_units_are_in_a_sandbox(observer: Machine) -> None:
    report = observer.run("systemd-analyze", "security", "--no-pager", "--json=short")
    exposures = {unit["unit"]: float(unit["exposure"]) for unit in json.loads(report)}
    assert {unit: exposures[unit] for unit in UNITS if exposures[unit] > MOST_EXPOSURE} == {}


def test_dashboards_lie_on_the_observing_node(observer: Machine) -> None:
    names: Sequence[str] = observer.run("ls", "/var/lib/borough/dashboards").split()
    assert len(names) == 5
    for name in names:
        json.loads(observer.run("cat", f"/var/lib/borough/dashboards/{name}"))
