"""What a security auditor looks at: sandboxes, open ports, where secrets are."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from provisioning.machines.machine import Machine
from provisioning.machines.region import RegionRehearsal

MOST_EXPOSURE = 3.0
# Ours, whether they run or not, and those of Debian's that the roles fence in.
UNITS = """cd /etc/systemd/system
others="kamailio keepalived prometheus prometheus-node-exporter prometheus-exporter-exporter"
for unit in borough*.service $(printf "%s.service " $others); do
  unit=$(echo "$unit" | sed "s/@[.]/@1./")
  systemctl cat "$unit" >/dev/null 2>&1 && systemd-analyze security --no-pager "$unit" | tail -1
done; true"""
EXPOSURE = re.compile(r"exposure level for (?P<unit>\S+): (?P<exposure>[\d.]+)")
# keepalived is Debian's own and the one service that has to be root in the machine's network: it takes addresses
# (CAP_NET_ADMIN), sends ARP and VRRP (CAP_NET_RAW), and runs our check as somebody else (CAP_SETUID, CAP_KILL).
EXCEPTIONS = {"keepalived.service": 5.5}
SCANNER = Path(__file__).with_name("scan_ports.py")
KEY_BODY_CHARACTERS = 48
ALL_PORTS = "1-65535"
SCANNED_WITHIN_S = 600.0


def machines(region: RegionRehearsal) -> list[Machine]:
    """The hub and the nodes."""
    return region.rehearsal.machines()[: 1 + region.plan.nodes]


def test_every_unit_is_in_a_sandbox(hub: Machine, nodes: list[Machine]) -> None:
    """systemd's own judgement of each unit, on the hub and on two nodes, one of which observes."""
    for machine in (hub, *nodes[:2]):
        report = machine.run("sh", "-c", UNITS)
        exposures = {found["unit"]: float(found["exposure"]) for found in EXPOSURE.finditer(report)}
        print(f"\n{machine.place.name}: {exposures}")  # noqa: T201 - the figures that are asked for
        assert len(exposures) >= 7, report
        assert {u: e for u, e in exposures.items() if e > EXCEPTIONS.get(u, MOST_EXPOSURE)} == {}


def open_ports(asker: Machine, addresses: list[str], ports: str) -> dict[str, list[int]]:
    """Which TCP ports of each address answer a machine."""
    (asker.mounted / "root" / SCANNER.name).write_bytes(SCANNER.read_bytes())
    script = f"ulimit -n 8192; python3 /root/{SCANNER.name} {ports} {' '.join(addresses)}"
    found: dict[str, list[int]] = json.loads(asker.run("sh", "-c", script, timeout_s=SCANNED_WITHIN_S))
    return found


def test_a_neighbour_finds_no_open_port(region: RegionRehearsal, neighbour: Machine) -> None:
    """A machine in the same network that is no trunk, sibling, hub or admin gets no answer on any TCP port."""
    addresses = [machine.place.address for machine in machines(region)] + [region.plan.virtual_address]
    assert open_ports(neighbour, addresses, ALL_PORTS) == {address: [] for address in addresses}


def test_the_scan_sees_what_is_open(neighbour: Machine) -> None:
    """The proof that the scan can find something: its own SSH answers."""
    assert 22 in open_ports(neighbour, ["127.0.0.1"], ALL_PORTS)["127.0.0.1"]


def test_a_sibling_finds_what_the_page_says(hub: Machine, nodes: list[Machine]) -> None:
    """NATS and inference of its siblings, and of the hub what regions may reach; metrics only if it observes."""
    observer, sibling, other = nodes
    assert open_ports(other, [sibling.place.address, hub.place.address], ALL_PORTS) == {
        sibling.place.address: [4222, 6222, 50051],
        hub.place.address: [7422, 7444, 7445],
    }
    assert open_ports(observer, [sibling.place.address], ALL_PORTS) == {
        sibling.place.address: [4222, 6222, 9443, 50051]
    }


def test_an_admin_finds_what_the_page_says(hub: Machine, nodes: list[Machine]) -> None:
    """SSH, and at the hub the admin API. It is the carrier's place, too, so SIP answers it."""
    addresses = [nodes[0].place.address, hub.place.address]
    script = f"ulimit -n 8192; exec python3 {SCANNER} {ALL_PORTS} {' '.join(addresses)}"
    scan = subprocess.run(["sh", "-c", script], check=True, capture_output=True, text=True, timeout=SCANNED_WITHIN_S)
    assert json.loads(scan.stdout) == {nodes[0].place.address: [22, 5060], hub.place.address: [22, 7443]}


@pytest.fixture(scope="module")
def secrets(region: RegionRehearsal) -> dict[str, str]:
    """Every secret of a node: the region's, and the middle of each private key."""
    vault = yaml.safe_load((region.inventory / "group_vars" / "nodes" / "vault.yml").read_text(encoding="utf-8"))
    values = vault["borough_secrets"]
    found = {"subjects": values["subjects"], "master": values["master"][0], "ari": values["ari"]}
    node = machines(region)[1]
    keys = node.run("sh", "-c", "find /etc/borough/identity -name key.pem | xargs -r realpath | sort -u")
    for path in keys.split():
        body = "".join(node.run("cat", path).splitlines()[1:-1])
        found[path] = body[-KEY_BODY_CHARACTERS - 8 : -8]
    assert len(found) > 8
    return found


@pytest.mark.parametrize(
    "place",
    [
        "cat /etc/systemd/system/borough* /etc/systemd/system/borough*/* /usr/lib/systemd/system/borough*",
        "cat /proc/[0-9]*/cmdline",
        "cat /proc/[0-9]*/environ",
        "journalctl --no-pager",
        "cat /var/log/borough/*/* /var/log/*",
        "cat /etc/borough/*.toml /etc/borough/rendered/* /etc/borough/rendered/*/*",
        "cat /etc/kamailio/* /etc/keepalived/* /etc/nftables.conf /etc/prometheus/*",
    ],
)
def test_no_secret_is_where_others_can_see_it(region: RegionRehearsal, secrets: dict[str, str], place: str) -> None:
    """Not in unit files, process lists, environments, logs or rendered settings of any node."""
    for machine in machines(region)[1:]:
        text = machine.run("sh", "-c", f"{place} 2>/dev/null | LC_ALL=C tr -cd '[:print:]' || true")
        assert len(text) > 20
        assert [name for name, secret in secrets.items() if secret in text] == []


def test_the_secrets_are_found_where_they_are(region: RegionRehearsal, secrets: dict[str, str]) -> None:
    """The proof that the search can find something."""
    node = machines(region)[1]
    text = node.run("sh", "-c", "find /etc/borough/identity /etc/borough/secrets -type f | xargs cat | tr -d '\\n'")
    assert [name for name, secret in secrets.items() if secret not in text] == []
