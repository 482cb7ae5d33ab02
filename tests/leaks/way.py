"""An attempt to get words out of a region: who is there to try, what is to become of it, and how it is put together.

Each is given a marker, the words, and tries with all it has; whether it came through is for others to see.
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from nats.aio.client import Client

from contract.nats_log import RefusalKind
from contract.streams import mirrors
from provisioning.identity.names import HUB_SITE, ServiceName, ServiceRole
from tests.forged_leaf import say
from tests.nats_network import Network

HOME, NODE = "in-south", "in-south-1"
ABROAD, FOREIGN_NODE = "eu-central", "eu-central-1"
TIMEOUT_S = 0.4


class Outcome(StrEnum):
    """What the border does about a way."""

    REFUSED = "refused"  # by a server, which says so in its log: counted and alarmed
    GUARDED = "guarded"  # allowed by subject, refused and deleted by the hub for what it is: counted there
    # Refused by no server and ends nowhere: counted by who watches, the hub what passes, the agents what stores.
    WATCHED = "watched"


@dataclass(slots=True)
class Stage:
    """The network, and who is connected to it."""

    network: Network
    border: Client
    agent: Client
    calls: Client
    litestream: Client
    system: Client

    @property
    def leaf_port(self) -> int:
        return self.network.hub.leaf_port

    def context(self, site: str, node: str, role: ServiceRole) -> ssl.SSLContext:
        return self.network.context(ServiceName(site=site, node=node, role=role))

    async def forge(self, lines: bytes, connect: dict[str, object] | None = None, *, stays_s: float = 0.0) -> None:
        """As a leaf node of one's own, with the certificate of the region's link."""
        await say(self.leaf_port, self.context(HOME, NODE, ServiceRole.LEAF), lines, connect, stays_s=stays_s)

    async def visit(self, port: int, site: str, node: str, role: ServiceRole, subject: str, payload: bytes) -> None:
        """Connect with any identity to any client port and publish."""
        context = self.context(site, node, role)
        await publish_with(port, context, subject, payload)


Json = Mapping[str, object]


Try = Callable[[Stage, str], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One attempt, what is to become of it, and why where that is not plain."""

    name: str
    outcome: Outcome
    attempt: Try
    why: str = ""
    # Whose server refuses it; refusals elsewhere are not of this way.
    site: str = HOME
    # Where the words may lie for a moment all the same: not with any service or store of the hub.
    remains: tuple[str, ...] = ()
    # What it is counted as; any kind where a server refuses it.
    kind: RefusalKind | None = None


async def publish_with(port: int, context: ssl.SSLContext | None, subject: str, payload: bytes) -> None:
    """The client protocol by hand; without a context, without TLS. Raises OSError."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            await reader.readline()
            if context is not None:
                await writer.start_tls(context, server_hostname="127.0.0.1")
            options = json.dumps({"verbose": False, "pedantic": False, "headers": True, "tls_required": bool(context)})
            head = f"CONNECT {options}\r\nPUB {subject} {len(payload)}\r\n"
            writer.write(head.encode() + payload + b"\r\nPING\r\n")
            await reader.read(4096)
            await reader.read(4096)
        finally:
            writer.close()


def publish(who: str, subject: str, payload: str = "{marker}", reply: str = "") -> Try:
    """`{marker}` stands for the words."""

    async def attempt(stage: Stage, marker: str) -> None:
        client: Client = getattr(stage, who)
        await client.publish(
            subject.format(marker=marker), payload.format(marker=marker).encode(), reply=reply.format(marker=marker)
        )
        await client.flush()

    return attempt


def request(who: str, subject: str, body: Json) -> Try:
    """`{marker}` in the subject or any text of the body stands for the words."""

    async def attempt(stage: Stage, marker: str) -> None:
        client: Client = getattr(stage, who)
        text = json.dumps(body).replace("{marker}", marker)
        await client.request(subject.replace("{marker}", marker), text.encode(), timeout=TIMEOUT_S)

    return attempt


def refused(name: str, attempt: Try, why: str = "", remains: tuple[str, ...] = ()) -> Way:
    return Way(name=name, outcome=Outcome.REFUSED, attempt=attempt, why=why, remains=remains)


def guarded(name: str, attempt: Try) -> Way:
    return Way(name=name, outcome=Outcome.GUARDED, attempt=attempt)


def at_hub(*ways: Way) -> tuple[Way, ...]:
    return tuple(replace(way, site=HUB_SITE) for way in ways)


def watched(name: str, kind: RefusalKind, attempt: Try, why: str, remains: tuple[str, ...] = ()) -> Way:
    return Way(name=name, outcome=Outcome.WATCHED, kind=kind, attempt=attempt, why=why, remains=remains)


MIRROR = mirrors(HOME)[0]
STREAM = {"name": "CALLS", "storage": "memory", "num_replicas": 1}
ANSWER = "the wall gives the answer a subject of its own; the server notes the other until an answer is due"
# The server's table of answers it waits for; 10 s (provisioning/nats/render.py).
REMAINS = ("monitor accountz",)
INTERNAL = "mirrors need the subject; it ends in the hub's server, which keeps nothing of it"
LEAK: Json = {"name": "LEAK", "description": "{marker}"}
