"""What a security auditor looks at: sandboxes, open ports, where secrets are."""

import json
import re
from pathlib import Path

import pytest
import yaml

from provisioning.machines.machine import Machine
from provisioning.machines.region import RegionRehearsal

MOST_EXPOSURE = 3.0
UNIT_LINE = re.compile(r"^(?P<unit>borough-\S+\.service)\s+(?P<exposure>[\d.]+)\s", re.MULTILINE)
SCANNER = Path(__file__).with_name("scan_ports.py")
KEY_BODY_CHARACTERS = 48


def machines(region: RegionRehearsal) -> list[Machine]:
    """The hub and the nodes."""
    return region.rehearsal.machines()[: 1 + region.plan.nodes]


def test_every_unit_is_in_a_sandbox(region: RegionRehearsal) -> None:
    """systemd's own judgement of each of our units, on a node and on the hub."""
    for machine in machines(region)[:2]:
        report = machine.run("systemd-analyze", "security", "--no-pager")
        exposures = {match["unit"]: float(match["exposure"]) for match in UNIT_LINE.finditer(report)}
        assert len(exposures) >= 4, report
        assert {unit: e for unit, e in exposures.items() if e > MOST_EXPOSURE} == {}


def test_a_neighbour_finds_no_open_port(region: RegionRehearsal) -> None:
    """A machine in the same network that is no trunk, sibling, hub or admin gets no answer on any TCP port."""
    spare = region.rehearsal.machines()[-1]
    (spare.mounted / "root" / SCANNER.name).write_bytes(SCANNER.read_bytes())
    addresses = [machine.place.address for machine in machines(region)] + [region.plan.virtual_address]
    output = spare.run("sh", "-c", f"ulimit -n 8192; python3 /root/{SCANNER.name} {' '.join(addresses)}", timeout_s=600)
    assert json.loads(output) == {address: [] for address in addresses}


def test_the_scan_sees_what_is_open(region: RegionRehearsal) -> None:
    """The proof that the scan can find something: from an admin's address SSH answers."""
    spare = region.rehearsal.machines()[-1]
    output = spare.run("sh", "-c", f"ulimit -n 8192; python3 /root/{SCANNER.name} 127.0.0.1", timeout_s=600)
    assert 22 in json.loads(output)["127.0.0.1"]


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
        text = machine.run("sh", "-c", f"{place} 2>/dev/null | tr '\\0' '\\n' | tr -d '\\n' || true")
        assert len(text) > 20
        assert [name for name, secret in secrets.items() if secret in text] == []


def test_the_secrets_are_found_where_they_are(region: RegionRehearsal, secrets: dict[str, str]) -> None:
    """The proof that the search can find something."""
    node = machines(region)[1]
    text = node.run("sh", "-c", "find /etc/borough/identity /etc/borough/secrets -type f | xargs cat | tr -d '\\n'")
    assert [name for name, secret in secrets.items() if secret not in text] == []
