"""Everything a hub can know: what passes through its account, what its streams hold, what its server says of itself.

It hears more than the hub's services may: its user listens to `>` in CENTRAL and in the system account.
"""

import json
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import aiohttp
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from contract.nats_log import RefusalKind
from contract.subjects import ROLLUP_STREAM, STATE_STREAM, WITNESS, ack, health, ping, rollup
from contract.uplink_guard import check_ping
from controlplane.fleet import validation as states
from controlplane.fleet.passing import Passed, is_of_links, refusal_of, region_and_subject
from controlplane.rollups import validation as rollups
from provisioning.identity.names import ServiceRole
from provisioning.nats.permissions import Border, Permissions
from tests.nats_network import Network

MONITORED = (
    "connz?subs=1&auth=1",
    "leafz?subs=1",
    "subsz?subs=1",
    "accountz?acc=CENTRAL",
    "jsz?streams=1&consumers=1&config=1",
)
# Ends inside the hub's JetStream: no user of the hub may listen there, nothing stores it.
SERVER_INTERNAL = ("$JS.FC.", "$JS.API.CONSUMER.RESET.", "$JS.ACK.")
OWN_INBOX = "_INBOX.observer"
# After the time that the ways give their counts.
NOW_MS = 1_795_420_060_000


class Names:
    """What the hub knows: one tenant with one agent, which has one intent."""

    def tenants(self, region: str) -> Collection[str]:
        return {"acme"}

    def agents(self, tenant: str) -> Collection[str]:
        return {"bank"}

    def intents(self, tenant: str, agent: str) -> Collection[str]:
        return {"balance"}

    def reasons(self, tenant: str) -> Collection[str]:
        return set()

    def owners(self, kind: str, name: str) -> Collection[str]:
        return {"acme"} if (kind, name) == ("Agent", "bank") else set()

    def newest_bundle(self, region: str) -> int:
        return 3

    def has_bundle(self, region: str, version: int) -> bool:
        return version <= 3


class Watched(Border):
    """The border as it is, and a hub whose user hears everything."""

    def controlplane(self) -> Permissions:
        return Permissions(publish=[">"], subscribe=[">"])

    def hub_system(self) -> Permissions:
        return Permissions(publish=[">"], subscribe=[">"])


class Opened(Watched):
    """The allow-list opened on purpose, on both sides."""

    has_wall = False

    def leaf(self, node: object) -> Permissions:
        return Permissions(publish=[">"], subscribe=[">"])

    def border(self, node: object) -> Permissions:
        return Permissions(publish=[">"], subscribe=[">"])

    def denied_exports(self, region: str) -> list[str]:
        return []

    def denied_imports(self, region: str) -> list[str]:
        return []


@dataclass(slots=True)
class Observer:
    """Looks for a marker; `guarded` counts what the hub's services refuse and delete, `witnessed` what they refuse of
    what no server does."""

    network: Network
    central: Client
    heard: list[Msg] = field(default_factory=list)
    guarded: int = 0
    witnessed: Counter[RefusalKind] = field(default_factory=Counter)

    @classmethod
    async def at(cls, network: Network) -> "Observer":
        """Listen from now on."""
        central = await network.connect(network.hub, ServiceRole.CONTROLPLANE, prefix=OWN_INBOX)
        observer = cls(network, central)
        system = await network.connect(network.hub, ServiceRole.SYSTEM, prefix=OWN_INBOX)
        for client in (central, system):
            await client.subscribe(">", cb=observer._hear)
            await client.flush()
        return observer

    def refused(self, kind: RefusalKind, region: str) -> None:
        """The witness of the hub tells of what it refuses."""
        assert region in (region.name for region in self.network.deployment.topology.regions)
        self.witnessed[kind] += 1

    async def _hear(self, message: Msg) -> None:
        # Its own questions are answered there; what is witnessed is judged by the witness.
        if not message.subject.startswith(OWN_INBOX) and not _is_judged(message):
            self.heard.append(message)

    async def ingest(self) -> None:
        """What the hub's services do with what is allowed by subject: their readers judge it, what they refuse is
        deleted, and what they take stays for the marker to be found.

        What is judged here counts as not heard; the same words under any other subject still do.
        """
        for stream in (ROLLUP_STREAM, STATE_STREAM):
            for seq, subject, headers, data in await self._messages(stream):
                if not _problems(subject, headers, data):
                    continue
                self.guarded += 1
                body = json.dumps({"seq": seq, "no_erase": False}).encode()
                await self.central.request(f"$JS.API.STREAM.MSG.DELETE.{stream}", body, 2)
        for heard in [heard for heard in self.heard if _is_typed(heard.subject)]:
            if heard.subject.split(".")[2] == "ping":
                self.guarded += bool(check_ping(heard.data, heard.headers))
            self.heard.remove(heard)

    async def _messages(self, stream: str) -> list[tuple[int, str, dict[str, str] | None, bytes]]:
        js = self.central.jetstream()
        state = (await js.stream_info(stream)).state
        found = []
        for seq in range(state.first_seq, state.last_seq + 1 if state.messages else 0):
            try:
                raw = await js.get_msg(stream, seq=seq)
            except NotFoundError:  # deleted
                continue
            assert raw.subject is not None
            found.append((seq, raw.subject, raw.headers, raw.data or b""))
        return found

    async def finds(self, marker: str) -> list[str]:
        """Where the marker is, at the hub."""
        await self.central.flush()
        places = [heard.subject for heard in self.heard if marker in _everything(heard)]
        self.heard.clear()
        places += await self._stored(marker)
        log = self.network.deployment.instance(self.network.hub).files.log
        places += ["log"] if marker in log.read_text(encoding="utf-8", errors="replace") else []
        return places + await self._monitored(marker)

    async def _stored(self, marker: str) -> list[str]:
        js = self.central.jetstream()
        places = []
        for info in await js.streams_info():
            assert info.config.name is not None
            if marker in str(info):
                places.append(f"configuration of {info.config.name}")
            if any(marker in str(consumer) for consumer in await js.consumers_info(info.config.name)):
                places.append(f"a consumer of {info.config.name}")
            for _, subject, headers, data in await self._messages(info.config.name):
                if marker in f"{subject}{headers}{data.decode(errors='replace')}":
                    places.append(f"stream {info.config.name}")
        return places

    async def _monitored(self, marker: str) -> list[str]:
        places = []
        async with aiohttp.ClientSession() as session:
            for page in MONITORED:
                async with session.get(f"http://127.0.0.1:{self.network.hub.monitor_port}/{page}") as answer:
                    if marker in await answer.text():
                        places.append(f"monitor {page.split('?')[0]}")
        return places


def _is_judged(message: Msg) -> bool:
    """Whether it is a copy for the hub's witness, which refuses it, or, where readers judge the message itself, finds
    nothing wrong with what they do not see."""
    if not message.subject.startswith(f"{WITNESS}."):
        return False
    region, subject = region_and_subject(message.subject)
    passed = Passed(region=region, subject=subject, reply=message.reply, headers=message.headers, payload=message.data)
    return is_of_links(passed) or refusal_of(passed) is not None or _is_typed(subject)


def _everything(message: Msg) -> str:
    return f"{message.subject} {message.reply} {message.headers} {message.data.decode(errors='replace')}"


def _problems(subject: str, headers: dict[str, str] | None, data: bytes) -> list[str]:
    _, region, kind, node = subject.split(".")
    if kind == "rollup":
        counts = rollups.Arrived(region=region, node=node, payload=data, headers=headers, now_ms=NOW_MS)
        return rollups.read_rollup(counts, Names())[1]
    said = states.Arrived(region=region, kind=kind, node=node, payload=data, headers=headers)
    return states.read_state(said, Names())[1]


def _is_typed(subject: str) -> bool:
    """Whether it is one of the four kinds that a region may send, of a node that exists."""
    region = subject.split(".")[1] if subject.count(".") == 3 else ""
    return subject in {make(region, f"{region}-1") for make in (rollup, health, ack, ping)}


def is_internal(place: str) -> bool:
    """Whether it is a subject inside the hub's JetStream that none of its users may hear."""
    return place.startswith(SERVER_INTERNAL)
