"""node.toml: what it may say, and how it is told what it may not."""

from pathlib import Path

import pytest

from provisioning.node.description import HubDescription, NodeDescription, parse_description, read_description
from provisioning.node.errors import NodeDescriptionError
from tests.provisioning.node.conftest import HUB_TOML, node_toml

PATH = Path("/etc/borough/node.toml")


def test_a_node_is_described_by_little() -> None:
    """Ports, codecs and models have defaults; region, addresses and capacity have none."""
    node = parse_description(PATH, node_toml())
    assert isinstance(node, NodeDescription)
    assert (node.region, node.name, node.address, node.vip) == ("in-south", "in-south-1", "10.20.0.11", "10.20.0.10")
    assert [peer.name for peer in node.nodes] == ["in-south-1", "in-south-2", "in-south-3"]
    assert (node.hub.name, node.hub.leaf_port, node.hub.enrolment_port, node.hub.renewal_port) == (
        "hub-1",
        7422,
        7444,
        7445,
    )
    assert (node.capacity, node.workers, node.nats.client, node.sip.asterisk_port) == (28, 2, 4222, 5080)
    assert [trunk.name for trunk in node.trunks] == ["carrier"]


def test_a_hub_is_described_by_less() -> None:
    """Name and address."""
    hub = parse_description(PATH, HUB_TOML)
    assert isinstance(hub, HubDescription)
    assert (hub.name, hub.address, hub.admin_port, hub.enrolment_port) == ("hub-1", "10.10.0.5", 7443, 7444)


@pytest.mark.parametrize(
    ("before", "after", "key", "value", "allowed"),
    [
        ('kind = "node"', 'kind = "nod"', "kind", "'nod'", "'node' or 'hub'"),
        ('name = "in-south-1"\naddress', 'name = "In_South"\naddress', "machine.name", "In_South", "lower-case"),
        ('\naddress = "10.20.0.11"\n', '\naddress = "10.20.0.99"\n', "machine.address", "10.20.0.99", "10.20.0.11"),
        ('\naddress = "10.20.0.11"\n', '\naddress = "0.0.0.0"\n', "machine.address", "0.0.0.0", "reach"),  # noqa: S104
        ('vip = "10.20.0.10"', 'vip = "10.20.0.12"', "region.vip", "10.20.0.12", "once"),
        ('vip = "10.20.0.10"', 'vip = "10.20.0.300"', "region.vip", "10.20.0.300", "IP address"),
        ('name = "in-south-2", a', 'name = "in-south-1", a', "region.nodes", "in-south-1", "once"),
        ('name = "in-south"', 'name = "hub"', "region.name", "'hub'", "any name but"),
        ('address = "10.10.0.5"', 'address = "hub.example:7444"', "hub.address", "hub.example:7444", "without a port"),
        ('address = "10.10.0.5"', 'address = "10.10.0.5"\nleaf_port = 70000', "hub.leaf_port", "70000", "65535"),
        ("capacity = 28", "capacity = 0", "calls.capacity", "0", "greater than or equal to 1"),
        ("capacity = 28", "", "calls.capacity", "", "required"),
        ("workers = 2", "wrokers = 2", "calls.wrokers", "2", "not permitted"),
        ("[[trunks]]", "[sip]\nrtp_last = 20100\n[[trunks]]", "sip.rtp_first", "20000-20100", "at least 224 ports"),
        ("[[trunks]]", "[sip]\nasterisk_port = 5060\n[[trunks]]", "sip.asterisk_port", "5060", "another port"),
        ("[[trunks]]", '[sip]\ncodecs = ["opsu"]\n[[trunks]]', "sip.codecs", "opsu", "ulaw"),
        ('name = "carrier"', 'name = "front-door"', "trunks.0.name", "front-door", "not 'front-door'"),
        ('host = "10.30.0.1"', 'host = "10.30.0.1"\nsrtp = true', "trunks.carrier.transport", "udp", "tls"),
    ],
)
def test_a_mistake_is_named_with_key_value_and_what_is_allowed(
    before: str, after: str, key: str, value: str, allowed: str
) -> None:
    """The error says where, what, and what it should be; its hint says where to mend it."""
    assert before in node_toml()
    with pytest.raises(NodeDescriptionError) as refused:
        parse_description(PATH, node_toml().replace(before, after, 1))
    message = str(refused.value)
    assert str(PATH) in message
    assert key in message
    assert value in message
    assert allowed in message
    assert "inventory" in refused.value.hint


def test_a_machine_without_a_description_is_neither(tmp_path: Path) -> None:
    """The hint names the playbooks."""
    with pytest.raises(NodeDescriptionError, match="neither a node nor a hub") as missing:
        read_description(tmp_path / "node.toml")
    assert "region.yml" in missing.value.hint
