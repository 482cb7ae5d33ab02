"""The rendered topology with real servers: links, mirrors, clusters, revocation."""

from pathlib import Path

import pytest

from contract.streams import mirrors
from contract.subjects import config_beat, rollup
from provisioning.identity.names import ServiceRole
from tests.nats_network import ask, eventually, nats_network


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_a_region_of_any_size_publishes_up_and_mirrors_down(tmp_path: Path, count: int) -> None:
    """With one, two and three nodes; from the last node, which has no JetStream of its own where there are two."""
    async with nats_network(tmp_path, {"in-south": count}) as network:
        await network.make_streams()
        central = await network.connect(network.hub, ServiceRole.CONTROLPLANE)
        last = network.node("in-south", count)
        border = await network.connect(last, ServiceRole.BORDER)
        ack = await border.jetstream().publish(rollup("in-south", last.name), b"counts", timeout=5)
        assert (ack.stream, ack.domain, ack.seq) == ("ROLLUPS", "hub", 1)
        await central.jetstream().publish(config_beat("in-south"), b"beat")
        mirror = mirrors("in-south")[0]

        async def is_mirrored() -> bool:
            state = (await ask(border, mirror.info_subject, {}))["state"]
            assert isinstance(state, dict)
            return bool(state["messages"] == 1)

        await eventually(is_mirrored)
