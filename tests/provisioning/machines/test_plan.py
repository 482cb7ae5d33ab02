"""Where machines stand."""

import pytest

from provisioning.machines.errors import MachineUnknownError
from provisioning.machines.plan import MachinesPlan, Place


def test_every_machine_has_an_address_of_its_own() -> None:
    """Hub, nodes, spares, this machine and the virtual address never meet."""
    plan = MachinesPlan(nodes=9, spares=9)
    addresses = [place.address for place in plan.places]
    assert len({*addresses, plan.gateway, plan.virtual_address}) == len(addresses) + 2 == 21


def test_a_place_is_found_by_its_name() -> None:
    """Nodes are named as their region."""
    plan = MachinesPlan(region="eu-central", nodes=2, network="10.9.8.0/24")
    assert plan.place("eu-central-2") == Place(name="eu-central-2", address="10.9.8.12", label="borough-12")
    with pytest.raises(MachineUnknownError, match="hub-1, eu-central-1, eu-central-2"):
        plan.place("eu-central-3")
