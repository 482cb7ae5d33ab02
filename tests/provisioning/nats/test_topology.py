"""What may be called a region."""

import pytest

from provisioning.nats.errors import TopologyError
from provisioning.nats.topology import Region


@pytest.mark.parametrize("name", ["eu-1234567", "hub", "EU", "eu_central"])
def test_a_name_that_no_message_could_bear_names_no_region(name: str) -> None:
    """And it is said what would."""
    with pytest.raises(TopologyError, match="at most 6 digits"):
        Region(name=name, nodes=())
