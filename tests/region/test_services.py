"""What the roles of services have made of a machine, asked of the machine itself."""

import json
import re

import pytest

from provisioning.machines.region import RegionRehearsal
from tests.region.asking import FETCH, Host, address_of, guard_of, is_served, lines_of

WORKERS = ("borough-calls@1", "borough-calls@2")
NODE_SERVICES = (
    *("borough-nats", "borough-inference", "borough-asterisk", "borough-asterisk-pulse", "borough-agent"),
    *("borough-litestream", *WORKERS),
)
HUB_SERVICES = ("borough-nats", "borough-inference", "borough-authority", "borough-controlplane")


# nats, inference, asterisk, agent, litestream, calls


@pytest.mark.parametrize("service", NODE_SERVICES)
def test_services_of_a_node_run(node: Host, service: str) -> None:
    """As their own users; systemd starts them with the machine."""
    assert is_served(node, service)
    unit = node.service(service).systemd_properties
    assert unit["SubState"] == "running"
    assert unit["User"] == re.sub(r"(-pulse|@\d)$", "", service)


def test_nothing_has_failed(host: Host) -> None:
    assert lines_of(host, "systemctl list-units --state=failed --plain --no-legend") == []


def test_nats_is_a_cluster_of_the_region(members: list[Host]) -> None:
    """Each server has a route to each other, JetStream has one leader; no arbiter in a region of three."""
    leaders = set()
    for member in members:
        assert member.socket(f"tcp://{address_of(member)}:4222").is_listening
        assert member.socket(f"tcp://{address_of(member)}:6222").is_listening
        assert not member.socket("tcp://0.0.0.0:8222").is_listening
        page = json.loads(member.check_output(f"{FETCH} http://127.0.0.1:8222/jsz"))
        assert page["meta_cluster"]["cluster_size"] == len(members)
        leaders.add(page["meta_cluster"]["leader"])
        assert not member.service("borough-nats-arbiter").is_running
    assert len(leaders) == 1


def test_inference_answers_at_its_socket_only(host: Host) -> None:
    """Metrics on loopback, everything else over a socket of the group."""
    socket = host.file("/run/borough/inference.sock")
    assert socket.is_socket
    assert guard_of(host, "/run/borough/inference.sock") == ("borough-inference", "borough", 0o770)
    assert host.socket("tcp://127.0.0.1:9103").is_listening
    assert not host.socket("tcp://0.0.0.0:9103").is_listening


def test_asterisk_runs_from_the_image_of_the_release(region: RegionRehearsal, node: Host) -> None:
    """And speaks SIP to the region, ARI to this machine only."""
    manifest = json.loads((region.store / "manifest.json").read_text(encoding="utf-8"))
    image = f"/var/lib/borough/images/asterisk-{manifest['asterisk']['hash']}"
    assert node.file("/var/lib/borough/images/asterisk").linked_to == image
    assert node.service("borough-asterisk").systemd_properties["RootDirectory"] == "/var/lib/borough/images/asterisk"
    assert node.socket(f"udp://{address_of(node)}:5080").is_listening
    assert node.socket("tcp://127.0.0.1:8088").is_listening
    assert not node.package("asterisk").is_installed


def test_the_agent_runs_the_bundle_of_the_hub(node: Host) -> None:
    """Fetched, swapped in whole, and with the tenants of the region."""
    current = node.file("/var/lib/borough/sync/current")
    assert re.fullmatch(r"/var/lib/borough/sync/bundles/\d+", current.linked_to)
    assert {"harbour-bank", "volt-electronics"} <= set(node.file("/var/lib/borough/sync/current/").listdir())
    assert node.service("borough-roster.path").is_running
    assert node.service("borough-roster.timer").is_running


def test_records_are_replicated(node: Host) -> None:
    """Litestream has its place beside each database, and lags nowhere."""
    databases = lines_of(node, "find /var/lib/borough/records -maxdepth 1 -name '*.sqlite3' -printf '%f\\n'")
    assert databases
    places = set(lines_of(node, "ls -A /var/lib/borough/records"))
    assert {f".{database}-litestream" for database in databases} <= places
    assert not node.file("/var/lib/borough/restored").exists


def test_as_many_workers_as_the_inventory_says(node: Host) -> None:
    """Each with its page on loopback; the self-test admits the node after a boot."""
    units = lines_of(node, "systemctl list-units --plain --no-legend --state=running 'borough-calls@*'")
    assert [line.split()[0] for line in units] == [f"{worker}.service" for worker in WORKERS]
    for port in (8081, 8082):
        assert node.socket(f"tcp://127.0.0.1:{port}").is_listening
        assert not node.socket(f"tcp://0.0.0.0:{port}").is_listening
    assert node.service("borough-selftest").is_enabled


# preflight, rotation


def test_a_node_is_in_rotation(node: Host) -> None:
    """No cordon is left by a playbook, and its own test passes."""
    assert not node.file("/run/borough/cordon").exists
    findings = json.loads(node.check_output("borough node self-test --json"))
    assert findings["passed"], findings


# front_door


def test_the_front_door_is_open(node: Host) -> None:
    """kamailio at the node's address, its figures on loopback, its settings for its group only."""
    for service in ("kamailio", "keepalived"):
        assert is_served(node, service)
    assert node.socket(f"udp://{address_of(node)}:5060").is_listening
    assert node.socket(f"tcp://{address_of(node)}:5060").is_listening
    assert node.socket("tcp://127.0.0.1:9106").is_listening
    for name in ("kamailio.cfg", "dispatcher.list", "address.list"):
        assert guard_of(node, f"/etc/kamailio/{name}") == ("root", "kamailio", 0o640)
    assert node.check_output("cat /proc/$(pidof -s kamailio)/status").count("CapEff:\t0000000000000000") == 1


def test_one_node_has_the_regions_address(region: RegionRehearsal, members: list[Host]) -> None:
    """And its siblings do not."""
    mine = f"inet {region.plan.virtual_address}/"
    assert [mine in member.check_output("ip -4 address show host0") for member in members].count(True) == 1


# hub


@pytest.mark.parametrize("service", HUB_SERVICES)
def test_services_of_the_hub_run(hub_host: Host, service: str) -> None:
    assert is_served(hub_host, service)
    assert hub_host.service(service).systemd_properties["User"] == service


def test_the_hub_listens_where_regions_and_admins_come(hub_host: Host) -> None:
    """The authority at a socket only; its key is its own."""
    for port in (7422, 7443, 7444, 7445):
        assert hub_host.socket(f"tcp://{address_of(hub_host)}:{port}").is_listening
    assert guard_of(hub_host, "/var/lib/borough/identity") == ("borough-authority", "borough-controlplane", 0o710)
    assert guard_of(hub_host, "/etc/borough/admin") == ("root", "root", 0o700)
    keys = lines_of(hub_host, "find /var/lib/borough/identity -name '*key*' -type f -printf '%u %m\\n'")
    assert keys
    assert set(keys) == {"borough-authority 600"}
    assert not hub_host.package("kamailio").is_installed
