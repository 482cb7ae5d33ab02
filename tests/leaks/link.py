"""A leaf node of one's own, with the stolen certificate of the region's link."""

import json
from functools import partial

import nats

from contract.nats_log import RefusalKind
from contract.subjects import bundle, ping, rollup
from provisioning.identity.names import ServiceName, ServiceRole
from provisioning.local.process import ServiceSpec, running
from provisioning.nats.instance import NatsInstance
from tests.forged_leaf import message, message_with_header, say
from tests.leaks.way import (
    ABROAD,
    ANSWER,
    FOREIGN_NODE,
    HOME,
    INTERNAL,
    MIRROR,
    NODE,
    REMAINS,
    Stage,
    Try,
    Way,
    at_hub,
    refused,
    watched,
)
from tests.nats_network import Network, eventually, free_ports

# As long as a node may have two links, and until the hub looks again.
BESIDE_S = 2.5


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


async def _foreign_leaf(stage: Stage, marker: str) -> None:
    """Another region's link speaks for this one."""
    context = stage.context(ABROAD, FOREIGN_NODE, ServiceRole.LEAF)
    await say(stage.leaf_port, context, message(rollup(HOME, NODE), marker.encode()))


async def _border_as_leaf(stage: Stage, marker: str) -> None:
    context = stage.context(HOME, NODE, ServiceRole.BORDER)
    await say(stage.leaf_port, context, message(rollup(HOME, NODE), marker.encode()))


async def _forged_header(stage: Stage, marker: str) -> None:
    await stage.forge(message_with_header(f"up.{HOME}.words.{NODE}", f"X-Words: {marker}".encode(), b"words"))


async def _forged_reply(stage: Stage, marker: str) -> None:
    """The words are the subject to which an answer is wanted."""
    await stage.forge(message(ping(HOME, NODE), b"", reply=f"words.{marker}"))


async def _forged_reset_reply(stage: Stage, marker: str) -> None:
    await stage.forge(message(MIRROR.reset_subject, b"", reply=f"words.{marker}"))


def _forged_with_header(subject: str, name: str) -> Try:
    async def attempt(stage: Stage, marker: str) -> None:
        await stage.forge(message_with_header(subject, f"{name}: {marker}".encode(), b""))

    return attempt


async def _beside_the_node(stage: Stage, marker: str) -> None:
    """A link of the node's name and certificate, beside its own, for as long as it takes to say something."""
    lines = message(rollup(ABROAD, FOREIGN_NODE), marker.encode())
    await stage.forge(lines, {"name": NODE, "cluster": "another"}, stays_s=BESIDE_S)


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


_LOGGED = "refused and counted; the server's own log keeps up to 1 KiB of what was refused, and who came as what"
_EVENT = f"$SYS.ACCOUNT.LINK_{HOME}"
_NAMED = ("log", "monitor leafz", f"{_EVENT}.CONNECT", f"{_EVENT}.DISCONNECT")
_WALL = "passes the permissions of nats-server 2.15 and ends at the wall, where it is witnessed"
_LEAK_TEXT = '{{"name":"LEAK","description":"{marker}"}}'


FORGED_WAYS: tuple[Way, ...] = at_hub(
    refused("forged leaf: a subject of its own", _forged("words.said")),
    refused("forged leaf: another kind of message", _forged(f"up.{HOME}.transcript.{NODE}")),
    refused("forged leaf: another node's name", _forged(rollup(HOME, "in-south-2"))),
    refused("forged leaf: another region", _forged(rollup(ABROAD, FOREIGN_NODE))),
    refused("forged leaf: the hub's JetStream", _forged("$JS.hub.API.STREAM.CREATE.LEAK", _LEAK_TEXT)),
    refused("forged leaf: its JetStream without a domain", _forged("$JS.API.STREAM.CREATE.LEAK", _LEAK_TEXT)),
    refused(
        "forged leaf: a consumer with metadata",
        _forged(f"{MIRROR.api_prefix}.CONSUMER.CREATE.{MIRROR.name}", '{{"config":{{"metadata":{{"x":"{marker}"}}}}}}'),
    ),
    refused("forged leaf: a bundle", _forged(bundle(HOME))),
    refused("forged leaf: the other way of a mirror", _forged(MIRROR.deliver_subject)),
    refused("forged leaf: to an inbox", _forged("_INBOX.words")),
    refused("forged leaf: to the hub's system", _forged("$SYS.REQ.SERVER.PING")),
    refused("forged leaf: as MQTT", _forged("$MQTT.msgs.words")),
    refused("forged leaf: through a gateway", _forged("_GR_.abcdefgh.ijklmn.words")),
    refused("forged leaf: a header", _forged_header),
    refused("forged leaf: words as the subject", _forged("words.{marker}"), _LOGGED, ("log",)),
    refused("forged leaf: words as its name", _forged("words.said", name="{marker}"), _LOGGED, _NAMED),
    watched(
        "forged leaf: a real server with other accounts and no deny lists",
        RefusalKind.IDENTITY,
        _forged_server,
        "a real nats-server obeys the list that the hub sends it; its name is not its certificate's",
    ),
    watched(
        "forged leaf: beside the node's own, under its name",
        RefusalKind.IDENTITY,
        _beside_the_node,
        "its certificate and its name are right, so that the hub lets it in; but a node has one link",
    ),
    watched(
        "forged leaf: as an acknowledgement", RefusalKind.INTERNAL, _forged("$JS.ACK.ROLLUPS.words.1.1.1.1.1"), _WALL
    ),
    watched("forged leaf: as a reply of a service", RefusalKind.INTERNAL, _forged("_R_.words.words"), _WALL),
    watched(
        "forged leaf: an allowed subject, as if through a gateway",
        RefusalKind.INTERNAL,
        _forged(f"_GR_.abcdef.ghijkl.{ping(HOME, NODE)}"),
        _WALL,
    ),
    watched(
        "forged leaf: as the flow control of a mirror",
        RefusalKind.INTERNAL,
        _forged(MIRROR.flow_control_subject.replace("*", "word")),
        INTERNAL,
    ),
    watched(
        "forged leaf: words as the flow control's token",
        RefusalKind.INTERNAL,
        _forged(MIRROR.flow_control_subject.replace("*", "{marker}"), ""),
        INTERNAL,
    ),
    watched(
        "forged leaf: words as the flow control's position",
        RefusalKind.INTERNAL,
        _forged_with_header(MIRROR.flow_control_subject.replace("*", "word"), "Nats-Last-Stream"),
        INTERNAL,
    ),
    watched(
        "forged leaf: a header of a mirror's reset",
        RefusalKind.INTERNAL,
        _forged_with_header(MIRROR.reset_subject, "X-Words"),
        INTERNAL,
    ),
    watched("forged leaf: words as the subject of the answer", RefusalKind.ANSWER, _forged_reply, ANSWER, REMAINS),
    watched("forged leaf: words as the answer to a mirror's reset", RefusalKind.ANSWER, _forged_reset_reply, INTERNAL),
    refused("forged leaf: says it is the hub", _forged("words.said", hub=True)),
    refused(
        "forged leaf: says it is the hub, an allowed kind of another region",
        _forged(rollup(ABROAD, FOREIGN_NODE), hub=True),
    ),
    refused(
        "forged leaf: says it belongs to another account",
        _forged("words.said", remote_account="CENTRAL", account="CENTRAL"),
    ),
    refused("forged leaf: another region's certificate", _foreign_leaf),
    refused("forged leaf: the certificate of a client", _border_as_leaf),
)
