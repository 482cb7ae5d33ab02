"""A server that left its region does not count for ever: real nats-servers forget it."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToJson

from contract.downlink_pb2 import NODE_STATE_ACTIVE, NODE_STATE_REMOVED, NodeState, Roster, RosterNode
from edge.sync.connection import NATS_ERRORS, NatsLink
from edge.sync.departures import Departures, peer_id
from edge.sync.settings import HubSection
from provisioning.local.process import hold_file
from tests.edge.replication.conftest import running
from tests.edge.sync.hub import REGION
from tests.edge.sync.played import settings_of
from tests.nats_network import Network, eventually, nats_network

ASK = "$SYS.REQ.SERVER.PING.STATSZ"


def write_roster(file: Path, removed: int | None = None) -> None:
    states: dict[int, NodeState.ValueType] = dict.fromkeys((1, 2, 3), NODE_STATE_ACTIVE)
    if removed is not None:
        states[removed] = NODE_STATE_REMOVED
    nodes = [RosterNode(name=f"{REGION}-{number}", state=state) for number, state in states.items()]
    file.write_text(MessageToJson(Roster(region=REGION, nodes=nodes), preserving_proto_field_name=True))


async def peers(own: NatsLink) -> dict[str, bool]:
    """The peers that a leading server sees, by id, and whether each is away; nothing where it does not lead."""
    try:
        question = json.dumps({"server_name": f"{REGION}-{own.name[-1]}", "exact_match": True}).encode()
        answer: Any = json.loads((await own.client.request(ASK, question, timeout=2)).data)
    except NATS_ERRORS:
        return {}
    meta = answer["statsz"]["jetstream"].get("meta", {})
    return {peer["peer"]: bool(peer.get("offline")) for peer in meta.get("replicas", ())}


def beside(network: Network, root: Path, roster: Path, number: int) -> Departures:
    settings = settings_of(network, root, number, hub=HubSection(trusted_keys=(root,)))
    own = NatsLink(f"own-{number}", settings.nats, settings.nats.system)
    return Departures(node=f"{REGION}-{number}", own=own, roster=roster, forgotten_after_s=1.0, look_every_s=0.3)


async def follower_of(watches: Mapping[int, Departures]) -> int | None:
    """A server that all are joined by and that does not lead; None while there is no such."""
    for number, watch in watches.items():
        if len(await peers(watch.own)) == len(watches) - 1:
            return max(watches.keys() - {number})
    return None


async def test_a_server_that_left_is_forgotten_and_one_that_is_only_away_is_not(tmp_path: Path) -> None:
    roster = tmp_path / "roster.json"
    write_roster(roster)
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(nats_network(tmp_path, {REGION: 3}))
        watches = {number: beside(network, tmp_path, roster, number) for number in (1, 2, 3)}
        for watch in watches.values():
            await stack.enter_async_context(running(watch.own.run()))
            await stack.enter_async_context(running(watch.run()))
            await watch.own.ready()

        async def has_joined() -> bool:
            return await follower_of(watches) is not None

        await eventually(has_joined, within_s=30.0)
        gone = await follower_of(watches)
        assert gone is not None, "it leads no more"
        del watches[gone]
        peer = peer_id(f"{REGION}-{gone}")
        server = network.deployment.topology.region(REGION).nodes[gone - 1]
        service = network.services[network.deployment.instance(server).directory.name]
        hold = hold_file(service.spec.control, service.spec.name)
        hold.touch()
        await service.stop()

        async def is_away() -> bool:
            return any([(await peers(watch.own)).get(peer, False) for watch in watches.values()])

        await eventually(is_away, within_s=30.0)
        await asyncio.sleep(3.0)
        assert await is_away(), "a node of the roster was forgotten"
        write_roster(roster, removed=gone)

        async def is_forgotten() -> bool:
            seen = [found for watch in watches.values() if (found := await peers(watch.own))]
            return bool(seen) and all(peer not in found for found in seen)

        await eventually(is_forgotten, within_s=30.0)
