"""New keys and certificates for a region that takes calls, as the page says."""

from bench.target import Trunk
from provisioning.machines.machine import Machine
from provisioning.machines.region import RegionRehearsal
from tests.region.calling import calls_going_on
from tests.region.pages import Reader

CERTIFICATES = "sha256sum /etc/borough/identity/*/current/certificate.pem"


def certificates(machine: Machine) -> dict[str, str]:
    """Sum of each certificate in use, by its file."""
    lines = machine.run("sh", "-c", CERTIFICATES).splitlines()
    return {path: digest for digest, path in (line.split() for line in lines)}


def test_certificates_are_rotated_under_calls(
    region: RegionRehearsal, trunk: Trunk, hub: Machine, nodes: list[Machine]
) -> None:
    """Every machine gets new keys; nobody on the telephone notices."""
    before = {machine.place.name: certificates(machine) for machine in (hub, *nodes)}
    with calls_going_on(trunk) as calls:
        Reader(region=region).follow("rotate-certificates")
    for machine in (hub, *nodes):
        now = certificates(machine)
        # A release may need one that there was none of before.
        assert now.keys() >= before[machine.place.name].keys()
        assert now.items() & before[machine.place.name].items() == set(), machine.place.name
    assert calls.lost == []
