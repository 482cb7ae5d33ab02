"""The pages of docs/operations do what they say, on a region of real machines.

What needs something to be prepared (another release, a lost machine) is followed in test_operations.py.
"""

import pytest

from provisioning.machines.region import RegionRehearsal
from tests.region.pages import Reader


@pytest.mark.parametrize("page", ["install-a-region", "rotate-certificates", "recover"])
def test_the_page_can_be_followed_on_a_region_that_serves(region: RegionRehearsal, page: str) -> None:
    """It ends well, and every node serves what it should."""
    Reader(region=region).follow(page)
