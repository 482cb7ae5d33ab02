"""A node agent with its border credentials, on subjects and streams that are not its own."""

from contract.nats_log import RefusalKind
from contract.streams import MAX_PAYLOAD_BYTES
from contract.subjects import bundle, object_stream, ping, rollup, snapshot_bucket
from provisioning.identity.names import ServiceRole
from tests.leaks.way import (
    ABROAD,
    ANSWER,
    FOREIGN_NODE,
    HOME,
    INTERNAL,
    LEAK,
    MIRROR,
    NODE,
    REMAINS,
    Json,
    Stage,
    Way,
    guarded,
    publish,
    publish_with,
    refused,
    request,
    watched,
)


async def _republished(stage: Stage, marker: str) -> None:
    """A mirror is replaced by a stream that takes an allowed subject and repeats it under another."""
    await request("border", MIRROR.delete_subject, {})(stage, marker)
    republish = {"src": ">", "dest": f"up.{HOME}.words"}
    body: Json = {"name": MIRROR.name, "subjects": [ping(HOME, NODE)], "republish": republish}
    try:
        await request("border", MIRROR.create_subject, body)(stage, marker)
        await stage.border.publish(ping(HOME, NODE), marker.encode())
        await stage.border.flush()
    finally:
        await request("border", MIRROR.delete_subject, {})(stage, marker)


async def _too_large(stage: Stage, marker: str) -> None:
    context = stage.context(HOME, NODE, ServiceRole.BORDER)
    payload = marker.encode() * (MAX_PAYLOAD_BYTES // len(marker) + 2)
    await publish_with(stage.network.node(HOME).client_port, context, rollup(HOME, NODE), payload)


_WITH_METADATA: Json = {"stream_name": MIRROR.name, "config": {"metadata": {"x": "{marker}"}}}
_TO_ABROAD: Json = {
    "stream_name": MIRROR.name,
    "config": {"deliver_subject": f"mirror.{ABROAD}.config", "name": "{marker}"},
}
_KV: Json = {"name": "KV_words", "subjects": ["$KV.words.>"], "metadata": {"x": "{marker}"}}
_OBJECTS: Json = {"name": object_stream("words"), "metadata": {"x": "{marker}"}}


BORDER_WAYS: tuple[Way, ...] = (
    refused("border: another kind of message", publish("border", f"up.{HOME}.transcript.{NODE}")),
    refused("border: a shorter subject", publish("border", f"up.{HOME}")),
    refused("border: words as the kind", publish("border", f"up.{HOME}.{{marker}}.{NODE}")),
    refused("border: words as the node", publish("border", f"up.{HOME}.rollup.{{marker}}")),
    refused("border: another node's name", publish("border", rollup(HOME, "in-south-2"))),
    refused("border: another region's subject", publish("border", rollup(ABROAD, FOREIGN_NODE))),
    refused("border: words after the subject", publish("border", f"{rollup(HOME, NODE)}.{{marker}}")),
    refused("border: a very long subject", publish("border", f"up.{HOME}.rollup." + "x" * 800 + "{marker}")),
    refused("border: a subject of its own", publish("border", "words.{marker}")),
    refused("border: to an inbox at the hub", publish("border", "_INBOX.words")),
    refused("border: as a reply of a service", publish("border", "_R_.words.{marker}")),
    refused(
        "border: as the acknowledgement of a mirror",
        publish("border", f"$JS.ACK.{MIRROR.name}.{MIRROR.consumer}.1.1.1.1.{{marker}}"),
    ),
    refused(
        "border: as the flow control of a mirror",
        publish("border", f"$JS.FC.{MIRROR.name}.{MIRROR.consumer}.{{marker}}"),
    ),
    refused("border: to the hub's system", publish("border", "$SYS.REQ.SERVER.PING")),
    refused("border: as an event of the hub", publish("border", "$JS.EVENT.ADVISORY.{marker}")),
    refused("border: as MQTT", publish("border", "$MQTT.msgs.{marker}")),
    refused("border: as a bundle of another region", publish("border", bundle(ABROAD))),
    refused("border: into a mirror of another region", publish("border", f"mirror.{ABROAD}.config")),
    refused("border: into a key-value bucket of the hub", publish("border", "$KV.leases.{marker}")),
    refused("border: into an object store of the hub", publish("border", f"$O.{snapshot_bucket(HOME)}.C.{{marker}}")),
    refused("border: a stream at the hub", request("border", "$JS.hub.API.STREAM.CREATE.LEAK", LEAK)),
    refused(
        "border: a stream in the border's account",
        request("border", "$JS.API.STREAM.CREATE.LEAK", {"name": "LEAK", "subjects": ["up.>"]}),
    ),
    refused(
        "border: an update of a stream at the hub",
        request("border", "$JS.hub.API.STREAM.UPDATE.ROLLUPS", {"name": "ROLLUPS", "description": "{marker}"}),
    ),
    refused(
        "border: a message read from the hub",
        request("border", "$JS.hub.API.STREAM.MSG.GET.ROLLUPS", {"seq": 1, "x": "{marker}"}),
    ),
    refused(
        "border: a consumer with words in its metadata",
        request("border", f"{MIRROR.api_prefix}.CONSUMER.CREATE.{MIRROR.name}.x", _WITH_METADATA),
    ),
    refused(
        "border: a consumer that delivers to another region",
        request("border", f"$JS.hub.API.CONSUMER.CREATE.{MIRROR.name}", _TO_ABROAD),
    ),
    refused("border: a KV bucket across domains", request("border", "$JS.hub.API.STREAM.CREATE.KV_words", _KV)),
    refused(
        "border: an object store across domains",
        request("border", f"$JS.hub.API.STREAM.CREATE.{object_stream('words')}", _OBJECTS),
    ),
    refused("border: an account's imports", request("border", "$SYS.REQ.CLAIMS.UPDATE", {"imports": ["{marker}"]})),
    refused("border: more than any message", _too_large),
    guarded("border: a stream that repeats under another subject", _republished),
    guarded("border: words in a ping", publish("border", ping(HOME, NODE))),
    watched(
        "border: the reset of a mirror",
        RefusalKind.INTERNAL,
        publish("border", MIRROR.reset_subject, '{{"seq":1,"x":"{marker}"}}'),
        INTERNAL,
    ),
    watched(
        "border: words as the subject of the answer",
        RefusalKind.ANSWER,
        publish("border", ping(HOME, NODE), "", reply="words.{marker}"),
        ANSWER,
        REMAINS,
    ),
)
