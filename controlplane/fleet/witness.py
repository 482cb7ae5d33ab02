"""Hears a copy of what came over the regions' links unrefused, and counts what is none of ours (controlplane/fleet/
passing.py). Keeps nothing: of a message that is refused only its kind and region are told.

Watches the links themselves, too: a link belongs to the node of its certificate, and a node has one.
"""

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from nats.aio.client import Client
from nats.aio.msg import Msg

from contract.names import NODE_PATTERN, REGION_PATTERN
from contract.nats_log import RefusalKind
from contract.subjects import WITNESS
from controlplane.erasing import name_or_nothing
from controlplane.fleet.passing import Passed, is_of_links, refusal_of, region_and_subject

# A node that dials again replaces its old link at once; two that stand beside each other are two servers.
TOGETHER_AT_MOST_S = 1.0
# Two servers with one certificate may also put each other out, again and again.
BEGINNINGS_A_MINUTE = 6
MINUTE_S = 60.0
# A list of links may be a little older than the news that one of them ended.
LISTED_LATE_S = 10.0
DISCONNECT = "DISCONNECT"
_USER = re.compile(rf"borough://({REGION_PATTERN})/({NODE_PATTERN})/leaf/\d+")
Refused = Callable[[RefusalKind, str], None]
NodeKey = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkEvent:
    """A link that began or ended: its region, the node of its certificate, and what its server calls itself."""

    region: str
    node: str
    name: str
    connection: int
    is_end: bool


class LinkBook:
    """Which links stand, and which of them cannot be ours. Pure: `now` in seconds."""

    def __init__(self) -> None:
        self._open: dict[NodeKey, set[int]] = {}
        self._ended: dict[int, float] = {}
        self._began: dict[NodeKey, deque[float]] = {}
        self._beside: list[tuple[float, NodeKey, int]] = []

    def take(self, stand: Iterable[tuple[NodeKey, int]], now: float) -> None:
        """The server's list of all links that stand."""
        self._ended = {link: at for link, at in self._ended.items() if now - at < LISTED_LATE_S}
        self._open.clear()
        for key, link in stand:
            if link not in self._ended:
                self._open.setdefault(key, set()).add(link)

    def forget(self) -> None:
        """Nobody told of links for a while, and a server that was restarted counts its connections anew."""
        self._open.clear()
        self._ended.clear()
        self._beside.clear()

    def note(self, event: LinkEvent, now: float) -> bool:
        """Whether this link cannot be the node's."""
        key = (event.region, event.node)
        links = self._open.setdefault(key, set())
        if event.is_end:
            links.discard(event.connection)
            self._ended[event.connection] = now
            return False
        if event.name != event.node:
            return True
        if links - {event.connection}:
            self._beside.append((now, key, event.connection))
        links.add(event.connection)
        return self._begins_too_often(key, now)

    def beside_each_other(self, now: float) -> list[str]:
        """Regions of links that began beside another one of their node, which stands still; each link once."""
        due = [entry for entry in self._beside if now - entry[0] >= TOGETHER_AT_MOST_S]
        self._beside = [entry for entry in self._beside if entry not in due]
        return [key[0] for _, key, connection in due if self._open.get(key, set()) - {connection}]

    def _begins_too_often(self, key: NodeKey, now: float) -> bool:
        began = self._began.setdefault(key, deque(maxlen=BEGINNINGS_A_MINUTE))
        began.append(now)
        return len(began) == BEGINNINGS_A_MINUTE and now - began[0] < MINUTE_S


@dataclass(slots=True, kw_only=True)
class Witness:
    """Judges what passes; `refused` is told the kind and the region of what is none of ours."""

    nats: Client
    refused: Refused
    clock: Callable[[], float] = time.monotonic
    links: LinkBook = field(default_factory=LinkBook)

    async def run(self) -> None:
        """Listen until cancelled."""
        subscription = await self.nats.subscribe(f"{WITNESS}.>", cb=self._hear)
        try:
            while True:
                await asyncio.sleep(TOGETHER_AT_MOST_S)
                self.look()
        finally:
            if self.nats.is_connected:
                await subscription.unsubscribe()

    def look(self) -> None:
        """Count links that stand beside each other."""
        for region in self.links.beside_each_other(self.clock()):
            self.refused(RefusalKind.IDENTITY, region)

    async def _hear(self, message: Msg) -> None:
        region, subject = region_and_subject(message.subject)
        passed = Passed(
            region=region, subject=subject, reply=message.reply, headers=message.headers, payload=message.data
        )
        kind = self._of_link(passed) if is_of_links(passed) else refusal_of(passed)
        if kind is not None:
            self.refused(kind, name_or_nothing(region))

    def _of_link(self, passed: Passed) -> RefusalKind | None:
        event = link_event(passed)
        if event is None or not self.links.note(event, self.clock()):
            return None
        return RefusalKind.IDENTITY


def link_event(passed: Passed) -> LinkEvent | None:
    """What the server says of a link; None where it was never one of a certificate."""
    try:
        client = json.loads(passed.payload)["client"]
        name, connection = str(client.get("name", "")), int(client["id"])
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    user = _USER.fullmatch(str(client.get("user", "")))
    if user is None:
        return None
    is_end = passed.subject.endswith(DISCONNECT)
    return LinkEvent(region=passed.region, node=user[2], name=name, connection=connection, is_end=is_end)
