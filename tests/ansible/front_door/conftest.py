"""What the tests of the front door share: the root with Debian's programs, Asterisk's image, a network."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ansible.front_door.network import Host, require_namespaces, switched
from tests.ansible.front_door.region import CARRIER, NODES, SECURE_CARRIER, STRANGER, VIP
from tests.ansible.front_door.root import require_root
from tests.asterisk_pair import require_asterisk


@pytest.fixture(scope="session")
def root() -> Path:
    """Debian 13 with kamailio, keepalived and nftables."""
    require_namespaces()
    return require_root()


@pytest.fixture(scope="session")
def image() -> Path:
    """The Asterisk root image."""
    return require_asterisk()


@pytest.fixture
def hosts(root: Path) -> Iterator[dict[str, Host]]:
    """Three nodes, the first with the VIP; two carriers; a stranger."""
    assert root.is_dir()
    addresses = {
        "a": (NODES[0], VIP),
        "b": (NODES[1],),
        "c": (NODES[2],),
        "carrier": (CARRIER,),
        "secure": (SECURE_CARRIER,),
        "stranger": (STRANGER,),
    }
    with switched(addresses) as made:
        yield made
