"""Every other role of a node, within the region's own account."""

from contract.nats_log import RefusalKind
from contract.subjects import (
    SESSIONS_BUCKET,
    key_value_stream,
    key_value_subject,
    object_stream,
    object_subjects,
    replica_bucket,
    rollup,
)
from tests.leaks.way import HOME, LEAK, MIRROR, NODE, STREAM, Json, Stage, Way, publish, refused, request, watched


async def _republished_in_region(stage: Stage, marker: str) -> None:
    """A stream of the region repeats what calls say under a subject of the border."""
    body = {
        **STREAM,
        "name": "ECHO",
        "subjects": ["words.>"],
        "republish": {"src": "words.>", "dest": f"up.{HOME}.>"},
    }
    await request("agent", "$JS.API.STREAM.CREATE.ECHO", body)(stage, marker)
    await publish("calls", f"words.rollup.{NODE}")(stage, marker)


async def _sessions_repeated(stage: Stage, marker: str) -> None:
    """The stream of sessions, made before its bucket, repeats what workers tell of calls under a subject of the
    border."""
    name, subject = key_value_stream(SESSIONS_BUCKET), key_value_subject(SESSIONS_BUCKET, ">")
    body = {
        **STREAM,
        "name": name,
        "subjects": [subject],
        "republish": {"src": subject, "dest": f"up.{HOME}.words.>"},
    }
    try:
        await request("agent", f"$JS.API.STREAM.CREATE.{name}", body)(stage, marker)
        await publish("calls", key_value_subject(SESSIONS_BUCKET, "{marker}"))(stage, marker)
    finally:
        await request("agent", f"$JS.API.STREAM.DELETE.{name}", {})(stage, marker)


async def _mirrored_from_region(stage: Stage, marker: str) -> None:
    """The border's account sources a stream of the region's account."""
    await request("agent", "$JS.API.STREAM.CREATE.CALLS", {**STREAM, "subjects": ["calls.>"]})(stage, marker)
    await publish("calls", "calls.said")(stage, marker)
    body: Json = {
        "name": MIRROR.name,
        "sources": [{"name": "CALLS", "external": {"api": f"$JS.{HOME}.API", "deliver": ""}}],
    }
    await request("border", MIRROR.delete_subject, {})(stage, marker)
    await request("border", MIRROR.create_subject, body)(stage, marker)


_NO_STREAM = "a node's credentials may make streams, and no account leads out; every agent of the region looks at them"
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


REGION_WAYS: tuple[Way, ...] = (
    refused("agent: a rollup subject", publish("agent", rollup(HOME, NODE))),
    refused("agent: a stream at the hub", request("agent", "$JS.hub.API.STREAM.CREATE.LEAK", LEAK)),
    refused("calls: a rollup subject", publish("calls", rollup(HOME, NODE))),
    refused("calls: a mirror's subject", publish("calls", f"mirror.{HOME}.config")),
    refused("calls: the reset of a mirror", publish("calls", MIRROR.reset_subject)),
    refused("calls: into the replicas", publish("calls", f"$O.records-{NODE}.C.{{marker}}")),
    refused("litestream: a rollup subject", publish("litestream", rollup(HOME, NODE))),
    refused(
        "litestream: an object store at the hub",
        request(
            "litestream",
            "$JS.hub.API.STREAM.CREATE.OBJ_hub-records",
            {"name": "OBJ_hub-records", "description": "{marker}"},
        ),
    ),
    refused("litestream: a stream of its own", request("litestream", "$JS.API.STREAM.CREATE.LEAK", LEAK)),
    refused("system: a rollup subject", publish("system", rollup(HOME, NODE))),
    refused("system: an event", publish("system", "$SYS.ACCOUNT.{marker}.CONNECT")),
    refused("agent: a subject of the region", publish("agent", "words.{marker}")),
    refused("calls: a subject of the region", publish("calls", "words.{marker}")),
    refused("calls: a stream of the region", request("calls", "$JS.API.STREAM.CREATE.LEAK", LEAK)),
    refused(
        "calls: an update of the sessions",
        request("calls", "$JS.API.STREAM.UPDATE.KV_sessions", {"name": "KV_sessions", "description": "{marker}"}),
    ),
    refused("calls: a session at the hub", publish("calls", "$JS.hub.API.STREAM.MSG.GET.KV_sessions")),
    watched("agent: sessions that are repeated", RefusalKind.STREAM, _sessions_repeated, _NO_STREAM),
    refused(
        "agent: an update of a stream of the region",
        request("agent", "$JS.API.STREAM.UPDATE.KV_sync-locks", {"name": "KV_sync-locks", "description": "{marker}"}),
    ),
    watched("agent: a stream that mirrors to the border", RefusalKind.STREAM, _republished_in_region, _NO_STREAM),
    watched("agent and border: a source across accounts", RefusalKind.STREAM, _mirrored_from_region, _NO_STREAM),
    watched(
        "agent: a mirror of a hub stream",
        RefusalKind.STREAM,
        request("agent", "$JS.API.STREAM.CREATE.X", _OF_HUB_STREAM),
        _NO_STREAM,
    ),
    watched(
        "agent: a store of records that repeats under another subject",
        RefusalKind.STREAM,
        request("agent", f"$JS.API.STREAM.CREATE.{object_stream(replica_bucket(NODE))}", _REPEATING_STORE),
        _NO_STREAM,
    ),
)
