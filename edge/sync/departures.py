"""Has the region's JetStream forget servers that left the region for good.

Theory of operation. JetStream decides by a majority of all servers that ever stored in the region. One that was taken
away (a node that was decommissioned, the arbiter of a region that was two) counts until somebody says that it is gone:
with one such ghost in a region of three, the loss of one more leaves no majority. The agent beside the server that
leads looks twice a minute. A server is forgotten when it is offline and the roster names nobody who has it, for ten
minutes without a break: a machine that gets an old name again meanwhile is no stranger, and a name that was forgotten
is not let in for five (raft.go).
"""

import asyncio
import hashlib
import json
import string
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from google.protobuf.json_format import Parse, ParseError

from contract.downlink_pb2 import NODE_STATE_REMOVED, Roster
from contract.names import arbiter_name
from edge.sync.connection import MALFORMED, NATS_ERRORS, NatsLink, raise_if_cancelled

log = structlog.get_logger(__name__)

FORGOTTEN_AFTER_S = 600.0
LOOK_EVERY_S = 30.0
ANSWER_WITHIN_S = 5.0
NODES_WITH_ARBITER = 2
REMOVE_SERVER = "$JS.API.SERVER.REMOVE"
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_PEER_ID_LENGTH = 8


@dataclass(slots=True, kw_only=True)
class Departures:
    """`own` is a connection to the node's own server, as its system user; `roster` the file of the current bundle."""

    node: str
    own: NatsLink
    roster: Path
    forgotten_after_s: float = FORGOTTEN_AFTER_S
    look_every_s: float = LOOK_EVERY_S
    _since: dict[str, float] = field(default_factory=dict)

    async def run(self) -> None:
        """Look until cancelled, whatever happens to NATS."""
        await self.own.ready()
        while True:
            try:
                await self._look()
            except (*NATS_ERRORS, *MALFORMED, ParseError) as error:
                log.warning("departures_not_seen", detail=type(error).__name__)
            raise_if_cancelled()
            await asyncio.sleep(self.look_every_s)

    async def _look(self) -> None:
        members = await asyncio.to_thread(_members, self.roster)
        known = {peer_id(name) for name in members}
        now = time.monotonic()
        gone = [peer for peer in await self._offline() if known and peer not in known]
        self._since = {peer: self._since.get(peer, now) for peer in gone}
        for peer, since in self._since.items():
            if now - since >= self.forgotten_after_s:
                await self._forget(peer)

    async def _offline(self) -> list[str]:
        """Peers that are away, where the own server leads; it alone knows them."""
        question = json.dumps({"server_name": self.node, "exact_match": True}).encode()
        answer = await self.own.client.request("$SYS.REQ.SERVER.PING.STATSZ", question, timeout=ANSWER_WITHIN_S)
        jetstream = json.loads(answer.data)["statsz"].get("jetstream") or {}
        return [peer["peer"] for peer in jetstream.get("meta", {}).get("replicas", ()) if peer.get("offline")]

    async def _forget(self, peer: str) -> None:
        request = json.dumps({"peer": "", "peer_id": peer}).encode()
        answer = await self.own.client.request(REMOVE_SERVER, request, timeout=ANSWER_WITHIN_S)
        error = json.loads(answer.data).get("error")
        log.warning("server_forgotten" if error is None else "server_not_forgotten", peer=peer, detail=error)


def peer_id(server: str) -> str:
    """What JetStream calls a server of this name (nats-server, server/raft.go and util.go: getHash)."""
    digest = hashlib.sha256(server.encode()).digest()[:_PEER_ID_LENGTH]
    return "".join(_DIGITS[byte % len(_DIGITS)] for byte in digest)


def _members(roster: Path) -> Collection[str]:
    """Servers that the region may have; none where no bundle says who belongs to it."""
    try:
        text = roster.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    return tuple(_servers(Parse(text, Roster(), ignore_unknown_fields=True)))


def _servers(roster: Roster) -> Iterator[str]:
    names = [node.name for node in roster.nodes if node.state != NODE_STATE_REMOVED]
    yield from names
    if len(names) == NODES_WITH_ARBITER:
        yield from map(arbiter_name, names)
