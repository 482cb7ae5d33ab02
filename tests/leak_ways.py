"""Ways to get words out of a region. Each is given a marker, the words, and tries with all it has; whether it came
through is for others to see.

Who tries: a node agent's border credentials, every other role of a node, another region's node, a leaf node of one's
own with stolen credentials, and strangers.
"""

import asyncio
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial

import nats
from google.protobuf.message import Message
from nats.aio.client import Client

from contract.nats_log import RefusalKind
from contract.streams import MAX_PAYLOAD_BYTES, mirrors
from contract.subjects import (
    SESSIONS_BUCKET,
    ack,
    bundle,
    health,
    key_value_stream,
    key_value_subject,
    object_stream,
    object_subjects,
    ping,
    replica_bucket,
    rollup,
    snapshot_bucket,
)
from contract.uplink_pb2 import Ack, Health, KnowledgeVersion, Rollup
from provisioning.identity.names import HUB_SITE, ServiceName, ServiceRole
from provisioning.identity.store import IdentityStore
from provisioning.local.process import ServiceSpec, running
from provisioning.nats.instance import NatsInstance
from tests.forged_leaf import message, message_with_header, say
from tests.nats_network import Network, eventually, free_ports

HOME, NODE = "in-south", "in-south-1"
ABROAD, FOREIGN_NODE = "eu-central", "eu-central-1"
NOW_MS = 1_795_420_000_000
TIMEOUT_S = 0.4
# As long as a node may have two links, and until the hub looks again.
BESIDE_S = 2.5


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


# --- building blocks ----------------------------------------------------------------------------------------------


def _publish(who: str, subject: str, payload: str = "{marker}", reply: str = "") -> Try:
    """`{marker}` stands for the words."""

    async def attempt(stage: Stage, marker: str) -> None:
        client: Client = getattr(stage, who)
        await client.publish(
            subject.format(marker=marker), payload.format(marker=marker).encode(), reply=reply.format(marker=marker)
        )
        await client.flush()

    return attempt


def _request(who: str, subject: str, body: Json) -> Try:
    """`{marker}` in the subject or any text of the body stands for the words."""

    async def attempt(stage: Stage, marker: str) -> None:
        client: Client = getattr(stage, who)
        text = json.dumps(body).replace("{marker}", marker)
        await client.request(subject.replace("{marker}", marker), text.encode(), timeout=TIMEOUT_S)

    return attempt


def _forged(subject: str, payload: str = "{marker}", **connect: object) -> Try:
    async def attempt(stage: Stage, marker: str) -> None:
        lines = message(subject.format(marker=marker), payload.format(marker=marker).encode())
        await stage.forge(
            lines,
            {
                key: str(value).format(marker=marker) if isinstance(value, str) else value
                for key, value in connect.items()
            },
        )

    return attempt


def _visit(server: str, site: str, node: str, role: ServiceRole) -> Try:
    """Publish a rollup subject with an identity where it does not belong."""

    async def attempt(stage: Stage, marker: str) -> None:
        port = stage.network.hub.client_port if server == "hub" else stage.network.node(server).client_port
        await stage.visit(port, site, node, role, rollup(HOME, NODE), marker.encode())

    return attempt


def _uplink(
    subject: str, make: Callable[[str], Message | bytes], headers: Callable[[str], dict[str, str]] | None = None
) -> Try:
    """A message on a subject that is allowed."""

    async def attempt(stage: Stage, marker: str) -> None:
        made = make(marker)
        payload = made.SerializeToString() if isinstance(made, Message) else made
        await stage.border.jetstream().publish(
            subject, payload, timeout=2, headers=headers(marker) if headers else None
        )

    return attempt


def said_well() -> dict[str, Message]:
    """What the hub takes, by subject: each guarded way is one of these but for the words."""
    return {
        rollup(HOME, NODE): _counts(),
        health(HOME, NODE): Health(region=HOME, node=NODE, release="0.1.0", alarms=["disk_low"]),
        ack(HOME, NODE): Ack(region=HOME, node=NODE, document_kind="Agent", document_name="bank"),
    }


def _counts() -> Rollup:
    counts = Rollup(region=HOME, node=NODE, seq=1, cut_at_ms=NOW_MS)
    entry = counts.entries.add(
        minute=NOW_MS // 60_000, tenant="acme", agent="bank", agent_version="3", intent="balance"
    )
    entry.calls.total = entry.calls.contained = 1
    return counts


def _changed(change: Callable[[Rollup, str], object]) -> Callable[[str], Rollup]:
    def make(marker: str) -> Rollup:
        counts = _counts()
        change(counts, marker)
        return counts

    return make


def _unknown_field(marker: str) -> bytes:
    return b"\xc2\x3e" + bytes([len(marker)]) + marker.encode()


def _as_name(marker: str) -> str:
    return f"said-{marker.lower()}"


def _refused(name: str, attempt: Try, why: str = "", remains: tuple[str, ...] = ()) -> Way:
    return Way(name=name, outcome=Outcome.REFUSED, attempt=attempt, why=why, remains=remains)


def _guarded(name: str, attempt: Try) -> Way:
    return Way(name=name, outcome=Outcome.GUARDED, attempt=attempt)


def _at_hub(*ways: Way) -> tuple[Way, ...]:
    return tuple(replace(way, site=HUB_SITE) for way in ways)


def _watched(name: str, kind: RefusalKind, attempt: Try, why: str, remains: tuple[str, ...] = ()) -> Way:
    return Way(name=name, outcome=Outcome.WATCHED, kind=kind, attempt=attempt, why=why, remains=remains)


_MIRROR = mirrors(HOME)[0]
_STREAM = {"name": "CALLS", "storage": "memory", "num_replicas": 1}


async def _republished(stage: Stage, marker: str) -> None:
    """A mirror is replaced by a stream that takes an allowed subject and repeats it under another."""
    await _request("border", _MIRROR.delete_subject, {})(stage, marker)
    republish = {"src": ">", "dest": f"up.{HOME}.words"}
    body: Json = {"name": _MIRROR.name, "subjects": [ping(HOME, NODE)], "republish": republish}
    try:
        await _request("border", _MIRROR.create_subject, body)(stage, marker)
        await stage.border.publish(ping(HOME, NODE), marker.encode())
        await stage.border.flush()
    finally:
        await _request("border", _MIRROR.delete_subject, {})(stage, marker)


async def _republished_in_region(stage: Stage, marker: str) -> None:
    """A stream of the region repeats what calls say under a subject of the border."""
    body = {
        **_STREAM,
        "name": "ECHO",
        "subjects": ["words.>"],
        "republish": {"src": "words.>", "dest": f"up.{HOME}.>"},
    }
    await _request("agent", "$JS.API.STREAM.CREATE.ECHO", body)(stage, marker)
    await _publish("calls", f"words.rollup.{NODE}")(stage, marker)


async def _sessions_repeated(stage: Stage, marker: str) -> None:
    """The stream of sessions, made before its bucket, repeats what workers tell of calls under a subject of the
    border."""
    name, subject = key_value_stream(SESSIONS_BUCKET), key_value_subject(SESSIONS_BUCKET, ">")
    body = {
        **_STREAM,
        "name": name,
        "subjects": [subject],
        "republish": {"src": subject, "dest": f"up.{HOME}.words.>"},
    }
    try:
        await _request("agent", f"$JS.API.STREAM.CREATE.{name}", body)(stage, marker)
        await _publish("calls", key_value_subject(SESSIONS_BUCKET, "{marker}"))(stage, marker)
    finally:
        await _request("agent", f"$JS.API.STREAM.DELETE.{name}", {})(stage, marker)


async def _mirrored_from_region(stage: Stage, marker: str) -> None:
    """The border's account sources a stream of the region's account."""
    await _request("agent", "$JS.API.STREAM.CREATE.CALLS", {**_STREAM, "subjects": ["calls.>"]})(stage, marker)
    await _publish("calls", "calls.said")(stage, marker)
    body: Json = {
        "name": _MIRROR.name,
        "sources": [{"name": "CALLS", "external": {"api": f"$JS.{HOME}.API", "deliver": ""}}],
    }
    await _request("border", _MIRROR.delete_subject, {})(stage, marker)
    await _request("border", _MIRROR.create_subject, body)(stage, marker)


async def _too_large(stage: Stage, marker: str) -> None:
    context = stage.context(HOME, NODE, ServiceRole.BORDER)
    payload = marker.encode() * (MAX_PAYLOAD_BYTES // len(marker) + 2)
    await publish_with(stage.network.node(HOME).client_port, context, rollup(HOME, NODE), payload)


async def _plain_client(stage: Stage, marker: str) -> None:
    await publish_with(stage.network.hub.client_port, None, rollup(HOME, NODE), marker.encode())


async def _plain_visitor(stage: Stage, marker: str) -> None:
    await publish_with(stage.network.node(HOME).client_port, None, rollup(HOME, NODE), marker.encode())


async def _plain_leaf(stage: Stage, marker: str) -> None:
    await publish_with(stage.leaf_port, None, rollup(HOME, NODE), marker.encode())


async def _foreign_leaf(stage: Stage, marker: str) -> None:
    """Another region's link speaks for this one."""
    context = stage.context(ABROAD, FOREIGN_NODE, ServiceRole.LEAF)
    await say(stage.leaf_port, context, message(rollup(HOME, NODE), marker.encode()))


async def _border_as_leaf(stage: Stage, marker: str) -> None:
    context = stage.context(HOME, NODE, ServiceRole.BORDER)
    await say(stage.leaf_port, context, message(rollup(HOME, NODE), marker.encode()))


async def _no_certificate(stage: Stage, marker: str) -> None:
    context = ssl.create_default_context(cafile=str(stage.network.deployment.identities.authority_file))
    await say(stage.leaf_port, context, message(rollup(HOME, NODE), marker.encode()))


async def _forged_header(stage: Stage, marker: str) -> None:
    await stage.forge(message_with_header(f"up.{HOME}.words.{NODE}", f"X-Words: {marker}".encode(), b"words"))


async def _forged_reply(stage: Stage, marker: str) -> None:
    """The words are the subject to which an answer is wanted."""
    await stage.forge(message(ping(HOME, NODE), b"", reply=f"words.{marker}"))


async def _forged_reset_reply(stage: Stage, marker: str) -> None:
    await stage.forge(message(_MIRROR.reset_subject, b"", reply=f"words.{marker}"))


def _forged_with_header(subject: str, name: str) -> Try:
    async def attempt(stage: Stage, marker: str) -> None:
        await stage.forge(message_with_header(subject, f"{name}: {marker}".encode(), b""))

    return attempt


async def _beside_the_node(stage: Stage, marker: str) -> None:
    """A link of the node's name and certificate, beside its own, for as long as it takes to say something."""
    lines = message(rollup(ABROAD, FOREIGN_NODE), marker.encode())
    await stage.forge(lines, {"name": NODE, "cluster": "another"}, stays_s=BESIDE_S)


async def _forged_queue(stage: Stage, marker: str) -> None:
    await stage.forge(f"LS+ words.{marker} {marker} 1\r\n".encode())


async def _expired(stage: Stage, marker: str) -> None:
    """The right name and authority, a week too late."""
    name = ServiceName(site=HOME, node=NODE, role=ServiceRole.LEAF)
    store = stage.network.deployment.identities
    late = store.issue(name, datetime.now(UTC) - timedelta(days=10), days=3)
    directory = store.root / name.key / str(late.generation)
    context = ssl.create_default_context(cafile=str(store.authority_file))
    context.load_cert_chain(directory / "certificate.pem", directory / "key.pem")
    await say(stage.leaf_port, context, message(rollup(HOME, NODE), marker.encode()))


async def _another_authority(stage: Stage, marker: str) -> None:
    """The right name, signed by somebody else."""
    name = ServiceName(site=HOME, node=NODE, role=ServiceRole.LEAF)
    other = IdentityStore(stage.network.deployment.root / "other-authority")
    other.init(datetime.now(UTC))
    other.issue(name, datetime.now(UTC))
    context = ssl.create_default_context(cafile=str(stage.network.deployment.identities.authority_file))
    context.load_cert_chain(other.certificate_file(name), other.key_file(name))
    await say(stage.leaf_port, context, message(rollup(HOME, NODE), marker.encode()))


async def _forged_server(stage: Stage, marker: str) -> None:
    """A nats-server of one's own: the stolen certificate, the link bound to an account of one's choice."""
    store = stage.network.deployment.identities
    leaf = store.directory(ServiceName(site=HOME, node=NODE, role=ServiceRole.LEAF))
    tls = {"cert_file": f"{leaf}/certificate.pem", "key_file": f"{leaf}/key.pem", "ca_file": f"{store.authority_file}"}
    client_port, monitor_port = free_ports(2)
    config = {
        "server_name": "forged-server",
        "listen": f"127.0.0.1:{client_port}",
        "http": f"127.0.0.1:{monitor_port}",
        "accounts": {"REGION": {"users": [{"user": "thief", "password": "thief"}]}},
        "leafnodes": {"remotes": [{"url": f"tls://127.0.0.1:{stage.leaf_port}", "account": "REGION", "tls": tls}]},
    }
    forged = NatsInstance(directory=stage.network.deployment.root / "forged", monitor_port=monitor_port)
    forged.write(json.dumps(config))
    spec = ServiceSpec(
        name="forged",
        argv=forged.argv,
        log=forged.directory / "output.log",
        control=forged.directory,
        is_ready=forged.is_ready,
        ready_within_s=5.0,
    )
    async with running(spec):
        await eventually(partial(Network.has_leaf, monitor_port), within_s=5.0)
        thief = await nats.connect(f"nats://thief:thief@127.0.0.1:{client_port}", allow_reconnect=False)
        try:
            for subject in (
                "words.said",
                f"up.{HOME}.transcript.{NODE}",
                "$JS.hub.API.STREAM.CREATE.LEAK",
                "_R_.words",
            ):
                await thief.publish(subject, marker.encode())
            await thief.flush()
        finally:
            await thief.close()


_ANSWER = "the wall gives the answer a subject of its own; the server notes the other until an answer is due"
# The server's table of answers it waits for; 10 s (provisioning/nats/render.py).
_REMAINS = ("monitor accountz",)
_LOGGED = "refused and counted; the server's own log keeps up to 1 KiB of what was refused, and who came as what"
_EVENT = f"$SYS.ACCOUNT.LINK_{HOME}"
_NAMED = ("log", "monitor leafz", f"{_EVENT}.CONNECT", f"{_EVENT}.DISCONNECT")
_INTERNAL = "mirrors need the subject; it ends in the hub's server, which keeps nothing of it"
_WALL = "passes the permissions of nats-server 2.15 and ends at the wall, where it is witnessed"
_NO_STREAM = "a node's credentials may make streams, and no account leads out; every agent of the region looks at them"
_LEAK: Json = {"name": "LEAK", "description": "{marker}"}
_LEAK_TEXT = '{{"name":"LEAK","description":"{marker}"}}'
_WITH_METADATA: Json = {"stream_name": _MIRROR.name, "config": {"metadata": {"x": "{marker}"}}}
_TO_ABROAD: Json = {
    "stream_name": _MIRROR.name,
    "config": {"deliver_subject": f"mirror.{ABROAD}.config", "name": "{marker}"},
}
_OF_HUB_STREAM: Json = {
    "name": "X",
    "description": "{marker}",
    "mirror": {"name": "ROLLUPS", "external": {"api": "$JS.hub.API", "deliver": "words"}},
}
_REPEATING_STORE: Json = {
    "name": object_stream(replica_bucket(NODE)),
    "subjects": object_subjects(replica_bucket(NODE)),
    "storage": "memory",
    "republish": {"src": ">", "dest": "words.>"},
}
_KV: Json = {"name": "KV_words", "subjects": ["$KV.words.>"], "metadata": {"x": "{marker}"}}
_OBJECTS: Json = {"name": object_stream("words"), "metadata": {"x": "{marker}"}}

BORDER_WAYS: tuple[Way, ...] = (
    _refused("border: another kind of message", _publish("border", f"up.{HOME}.transcript.{NODE}")),
    _refused("border: a shorter subject", _publish("border", f"up.{HOME}")),
    _refused("border: words as the kind", _publish("border", f"up.{HOME}.{{marker}}.{NODE}")),
    _refused("border: words as the node", _publish("border", f"up.{HOME}.rollup.{{marker}}")),
    _refused("border: another node's name", _publish("border", rollup(HOME, "in-south-2"))),
    _refused("border: another region's subject", _publish("border", rollup(ABROAD, FOREIGN_NODE))),
    _refused("border: words after the subject", _publish("border", f"{rollup(HOME, NODE)}.{{marker}}")),
    _refused("border: a very long subject", _publish("border", f"up.{HOME}.rollup." + "x" * 800 + "{marker}")),
    _refused("border: a subject of its own", _publish("border", "words.{marker}")),
    _refused("border: to an inbox at the hub", _publish("border", "_INBOX.words")),
    _refused("border: as a reply of a service", _publish("border", "_R_.words.{marker}")),
    _refused(
        "border: as the acknowledgement of a mirror",
        _publish("border", f"$JS.ACK.{_MIRROR.name}.{_MIRROR.consumer}.1.1.1.1.{{marker}}"),
    ),
    _refused(
        "border: as the flow control of a mirror",
        _publish("border", f"$JS.FC.{_MIRROR.name}.{_MIRROR.consumer}.{{marker}}"),
    ),
    _refused("border: to the hub's system", _publish("border", "$SYS.REQ.SERVER.PING")),
    _refused("border: as an event of the hub", _publish("border", "$JS.EVENT.ADVISORY.{marker}")),
    _refused("border: as MQTT", _publish("border", "$MQTT.msgs.{marker}")),
    _refused("border: as a bundle of another region", _publish("border", bundle(ABROAD))),
    _refused("border: into a mirror of another region", _publish("border", f"mirror.{ABROAD}.config")),
    _refused("border: into a key-value bucket of the hub", _publish("border", "$KV.leases.{marker}")),
    _refused("border: into an object store of the hub", _publish("border", f"$O.{snapshot_bucket(HOME)}.C.{{marker}}")),
    _refused("border: a stream at the hub", _request("border", "$JS.hub.API.STREAM.CREATE.LEAK", _LEAK)),
    _refused(
        "border: a stream in the border's account",
        _request("border", "$JS.API.STREAM.CREATE.LEAK", {"name": "LEAK", "subjects": ["up.>"]}),
    ),
    _refused(
        "border: an update of a stream at the hub",
        _request("border", "$JS.hub.API.STREAM.UPDATE.ROLLUPS", {"name": "ROLLUPS", "description": "{marker}"}),
    ),
    _refused(
        "border: a message read from the hub",
        _request("border", "$JS.hub.API.STREAM.MSG.GET.ROLLUPS", {"seq": 1, "x": "{marker}"}),
    ),
    _refused(
        "border: a consumer with words in its metadata",
        _request("border", f"{_MIRROR.api_prefix}.CONSUMER.CREATE.{_MIRROR.name}.x", _WITH_METADATA),
    ),
    _refused(
        "border: a consumer that delivers to another region",
        _request("border", f"$JS.hub.API.CONSUMER.CREATE.{_MIRROR.name}", _TO_ABROAD),
    ),
    _refused("border: a KV bucket across domains", _request("border", "$JS.hub.API.STREAM.CREATE.KV_words", _KV)),
    _refused(
        "border: an object store across domains",
        _request("border", f"$JS.hub.API.STREAM.CREATE.{object_stream('words')}", _OBJECTS),
    ),
    _refused("border: an account's imports", _request("border", "$SYS.REQ.CLAIMS.UPDATE", {"imports": ["{marker}"]})),
    _refused("border: more than any message", _too_large),
    _guarded("border: a stream that repeats under another subject", _republished),
    _guarded("border: words in a ping", _publish("border", ping(HOME, NODE))),
    _watched(
        "border: the reset of a mirror",
        RefusalKind.INTERNAL,
        _publish("border", _MIRROR.reset_subject, '{{"seq":1,"x":"{marker}"}}'),
        _INTERNAL,
    ),
    _watched(
        "border: words as the subject of the answer",
        RefusalKind.ANSWER,
        _publish("border", ping(HOME, NODE), "", reply="words.{marker}"),
        _ANSWER,
        _REMAINS,
    ),
)

UPLINK_WAYS: tuple[Way, ...] = (
    _guarded("rollup: plain text", _uplink(rollup(HOME, NODE), lambda marker: marker.encode())),
    _guarded(
        "rollup: text as the tenant",
        _uplink(rollup(HOME, NODE), _changed(lambda r, m: setattr(r.entries[0], "tenant", f"I said {m}"))),
    ),
    _guarded(
        "rollup: text as an escalation's reason",
        _uplink(rollup(HOME, NODE), _changed(lambda r, m: r.entries[0].calls.escalated.update({f"I said {m}": 1}))),
    ),
    _guarded(
        "rollup: a name as the intent",
        _uplink(rollup(HOME, NODE), _changed(lambda r, m: setattr(r.entries[0], "intent", _as_name(m)))),
    ),
    _guarded(
        "rollup: a name as the version",
        _uplink(rollup(HOME, NODE), _changed(lambda r, m: setattr(r.entries[0], "agent_version", _as_name(m)))),
    ),
    _guarded(
        "rollup: a number as the intent",
        _uplink(
            rollup(HOME, NODE), _changed(lambda r, m: setattr(r.entries[0], "intent", f"{_as_name(m)}-9876543210"))
        ),
    ),
    _guarded(
        "rollup: an unknown field",
        _uplink(rollup(HOME, NODE), lambda m: _counts().SerializeToString() + _unknown_field(m)),
    ),
    _guarded(
        "rollup: bytes that a parser skips",
        _uplink(
            rollup(HOME, NODE), lambda m: Rollup(node=_as_name(m)).SerializeToString() + _counts().SerializeToString()
        ),
    ),
    _guarded("rollup: text in a header", _uplink(rollup(HOME, NODE), lambda _: _counts(), lambda m: {"X-Words": m})),
    _guarded(
        "rollup: text as the message id",
        _uplink(rollup(HOME, NODE), lambda _: _counts(), lambda m: {"Nats-Msg-Id": f"I said {m}"}),
    ),
    _guarded(
        "rollup: a name as the message id",
        _uplink(rollup(HOME, NODE), lambda _: _counts(), lambda m: {"Nats-Msg-Id": _as_name(m)}),
    ),
    _guarded(
        "rollup: in another node's name",
        _uplink(rollup(HOME, NODE), lambda m: Rollup(region=HOME, node=_as_name(m)[:32])),
    ),
    _guarded(
        "rollup: letters as counts",
        _uplink(rollup(HOME, NODE), _changed(lambda r, m: r.entries[0].turns.confidence.extend(m.encode()))),
    ),
    _guarded(
        "health: text as an alarm",
        _uplink(health(HOME, NODE), lambda m: Health(region=HOME, node=NODE, alarms=[f"I said {m}"])),
    ),
    _guarded(
        "health: text as the release", _uplink(health(HOME, NODE), lambda m: Health(region=HOME, node=NODE, release=m))
    ),
    _guarded(
        "health: a name as an alarm",
        _uplink(health(HOME, NODE), lambda m: Health(region=HOME, node=NODE, alarms=[_as_name(m)])),
    ),
    _guarded(
        "health: a name as the release",
        _uplink(health(HOME, NODE), lambda m: Health(region=HOME, node=NODE, release=_as_name(m))),
    ),
    _guarded(
        "health: a name as a tenant",
        _uplink(
            health(HOME, NODE),
            lambda m: Health(region=HOME, node=NODE, knowledge=[KnowledgeVersion(tenant=_as_name(m))]),
        ),
    ),
    _guarded(
        "ack: a name as a document's name",
        _uplink(
            ack(HOME, NODE),
            lambda m: Ack(region=HOME, node=NODE, document_kind="Agent", document_name=_as_name(m)),
        ),
    ),
    _guarded(
        "ack: text as a document's name",
        _uplink(ack(HOME, NODE), lambda m: Ack(region=HOME, node=NODE, document_name=f"I said {m}")),
    ),
)

REGION_WAYS: tuple[Way, ...] = (
    _refused("agent: a rollup subject", _publish("agent", rollup(HOME, NODE))),
    _refused("agent: a stream at the hub", _request("agent", "$JS.hub.API.STREAM.CREATE.LEAK", _LEAK)),
    _refused("calls: a rollup subject", _publish("calls", rollup(HOME, NODE))),
    _refused("calls: a mirror's subject", _publish("calls", f"mirror.{HOME}.config")),
    _refused("calls: the reset of a mirror", _publish("calls", _MIRROR.reset_subject)),
    _refused("calls: into the replicas", _publish("calls", f"$O.records-{NODE}.C.{{marker}}")),
    _refused("litestream: a rollup subject", _publish("litestream", rollup(HOME, NODE))),
    _refused(
        "litestream: an object store at the hub",
        _request(
            "litestream",
            "$JS.hub.API.STREAM.CREATE.OBJ_hub-records",
            {"name": "OBJ_hub-records", "description": "{marker}"},
        ),
    ),
    _refused("litestream: a stream of its own", _request("litestream", "$JS.API.STREAM.CREATE.LEAK", _LEAK)),
    _refused("system: a rollup subject", _publish("system", rollup(HOME, NODE))),
    _refused("system: an event", _publish("system", "$SYS.ACCOUNT.{marker}.CONNECT")),
    _refused("agent: a subject of the region", _publish("agent", "words.{marker}")),
    _refused("calls: a subject of the region", _publish("calls", "words.{marker}")),
    _refused("calls: a stream of the region", _request("calls", "$JS.API.STREAM.CREATE.LEAK", _LEAK)),
    _refused(
        "calls: an update of the sessions",
        _request("calls", "$JS.API.STREAM.UPDATE.KV_sessions", {"name": "KV_sessions", "description": "{marker}"}),
    ),
    _refused("calls: a session at the hub", _publish("calls", "$JS.hub.API.STREAM.MSG.GET.KV_sessions")),
    _watched("agent: sessions that are repeated", RefusalKind.STREAM, _sessions_repeated, _NO_STREAM),
    _refused(
        "agent: an update of a stream of the region",
        _request("agent", "$JS.API.STREAM.UPDATE.KV_sync-locks", {"name": "KV_sync-locks", "description": "{marker}"}),
    ),
    _watched("agent: a stream that mirrors to the border", RefusalKind.STREAM, _republished_in_region, _NO_STREAM),
    _watched("agent and border: a source across accounts", RefusalKind.STREAM, _mirrored_from_region, _NO_STREAM),
    _watched(
        "agent: a mirror of a hub stream",
        RefusalKind.STREAM,
        _request("agent", "$JS.API.STREAM.CREATE.X", _OF_HUB_STREAM),
        _NO_STREAM,
    ),
    _watched(
        "agent: a store of records that repeats under another subject",
        RefusalKind.STREAM,
        _request("agent", f"$JS.API.STREAM.CREATE.{object_stream(replica_bucket(NODE))}", _REPEATING_STORE),
        _NO_STREAM,
    ),
)

FORGED_WAYS: tuple[Way, ...] = _at_hub(
    _refused("forged leaf: a subject of its own", _forged("words.said")),
    _refused("forged leaf: another kind of message", _forged(f"up.{HOME}.transcript.{NODE}")),
    _refused("forged leaf: another node's name", _forged(rollup(HOME, "in-south-2"))),
    _refused("forged leaf: another region", _forged(rollup(ABROAD, FOREIGN_NODE))),
    _refused("forged leaf: the hub's JetStream", _forged("$JS.hub.API.STREAM.CREATE.LEAK", _LEAK_TEXT)),
    _refused("forged leaf: its JetStream without a domain", _forged("$JS.API.STREAM.CREATE.LEAK", _LEAK_TEXT)),
    _refused(
        "forged leaf: a consumer with metadata",
        _forged(
            f"{_MIRROR.api_prefix}.CONSUMER.CREATE.{_MIRROR.name}", '{{"config":{{"metadata":{{"x":"{marker}"}}}}}}'
        ),
    ),
    _refused("forged leaf: a bundle", _forged(bundle(HOME))),
    _refused("forged leaf: the other way of a mirror", _forged(_MIRROR.deliver_subject)),
    _refused("forged leaf: to an inbox", _forged("_INBOX.words")),
    _refused("forged leaf: to the hub's system", _forged("$SYS.REQ.SERVER.PING")),
    _refused("forged leaf: as MQTT", _forged("$MQTT.msgs.words")),
    _refused("forged leaf: through a gateway", _forged("_GR_.abcdefgh.ijklmn.words")),
    _refused("forged leaf: a header", _forged_header),
    _refused("forged leaf: words as the subject", _forged("words.{marker}"), _LOGGED, ("log",)),
    _refused("forged leaf: words as its name", _forged("words.said", name="{marker}"), _LOGGED, _NAMED),
    _watched(
        "forged leaf: a real server with other accounts and no deny lists",
        RefusalKind.IDENTITY,
        _forged_server,
        "a real nats-server obeys the list that the hub sends it; its name is not its certificate's",
    ),
    _watched(
        "forged leaf: beside the node's own, under its name",
        RefusalKind.IDENTITY,
        _beside_the_node,
        "its certificate and its name are right, so that the hub lets it in; but a node has one link",
    ),
    _watched(
        "forged leaf: as an acknowledgement", RefusalKind.INTERNAL, _forged("$JS.ACK.ROLLUPS.words.1.1.1.1.1"), _WALL
    ),
    _watched("forged leaf: as a reply of a service", RefusalKind.INTERNAL, _forged("_R_.words.words"), _WALL),
    _watched(
        "forged leaf: an allowed subject, as if through a gateway",
        RefusalKind.INTERNAL,
        _forged(f"_GR_.abcdef.ghijkl.{ping(HOME, NODE)}"),
        _WALL,
    ),
    _watched(
        "forged leaf: as the flow control of a mirror",
        RefusalKind.INTERNAL,
        _forged(_MIRROR.flow_control_subject.replace("*", "word")),
        _INTERNAL,
    ),
    _watched(
        "forged leaf: words as the flow control's token",
        RefusalKind.INTERNAL,
        _forged(_MIRROR.flow_control_subject.replace("*", "{marker}"), ""),
        _INTERNAL,
    ),
    _watched(
        "forged leaf: words as the flow control's position",
        RefusalKind.INTERNAL,
        _forged_with_header(_MIRROR.flow_control_subject.replace("*", "word"), "Nats-Last-Stream"),
        _INTERNAL,
    ),
    _watched(
        "forged leaf: a header of a mirror's reset",
        RefusalKind.INTERNAL,
        _forged_with_header(_MIRROR.reset_subject, "X-Words"),
        _INTERNAL,
    ),
    _watched("forged leaf: words as the subject of the answer", RefusalKind.ANSWER, _forged_reply, _ANSWER, _REMAINS),
    _watched(
        "forged leaf: words as the answer to a mirror's reset", RefusalKind.ANSWER, _forged_reset_reply, _INTERNAL
    ),
    _refused("forged leaf: says it is the hub", _forged("words.said", hub=True)),
    _refused(
        "forged leaf: says it is the hub, an allowed kind of another region",
        _forged(rollup(ABROAD, FOREIGN_NODE), hub=True),
    ),
    _refused(
        "forged leaf: says it belongs to another account",
        _forged("words.said", remote_account="CENTRAL", account="CENTRAL"),
    ),
    _refused("forged leaf: another region's certificate", _foreign_leaf),
    _refused("forged leaf: the certificate of a client", _border_as_leaf),
)

STRANGER_WAYS: tuple[Way, ...] = _at_hub(
    _refused("border certificate at the hub", _visit("hub", HOME, NODE, ServiceRole.BORDER)),
    _refused("agent certificate at the hub", _visit("hub", HOME, NODE, ServiceRole.AGENT)),
    _refused("calls certificate at the hub", _visit("hub", HOME, NODE, ServiceRole.CALLS)),
    _refused("server certificate at the hub", _visit("hub", HOME, NODE, ServiceRole.SERVER)),
    _refused("leaf certificate as a client of the hub", _visit("hub", HOME, NODE, ServiceRole.LEAF)),
    _refused("an expired certificate", _expired),
    _refused("a certificate of another authority", _another_authority),
    replace(_refused("no TLS, as a client", _plain_client), kind=RefusalKind.PLAINTEXT),
    replace(_refused("no TLS, as a leaf", _plain_leaf), kind=RefusalKind.PLAINTEXT),
    _refused("no certificate", _no_certificate),
)

VISITOR_WAYS: tuple[Way, ...] = (
    replace(_refused("no TLS, as a client of the region", _plain_visitor), kind=RefusalKind.PLAINTEXT),
    _refused("leaf certificate as a client of the region", _visit(HOME, HOME, NODE, ServiceRole.LEAF)),
    _refused("another region's border certificate", _visit(HOME, ABROAD, FOREIGN_NODE, ServiceRole.BORDER)),
    _refused("the hub's certificate in the region", _visit(HOME, "hub", "hub-1", ServiceRole.CONTROLPLANE)),
)

ALL_WAYS = BORDER_WAYS + UPLINK_WAYS + REGION_WAYS + FORGED_WAYS + STRANGER_WAYS + VISITOR_WAYS
