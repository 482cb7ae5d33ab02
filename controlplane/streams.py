"""Creates at the hub what contract/streams.py describes: streams, and the consumers that feed the regions' mirrors."""

import json
from collections.abc import Iterable

import structlog
from nats.aio.client import Client

from contract.streams import StreamSpec, hub_streams, mirrors
from controlplane.errors import StreamRefusedError

log = structlog.get_logger(__name__)

REQUEST_WITHIN_S = 5.0
STREAM_EXISTS = 10058  # "stream name already in use with a different configuration"


async def ensure_streams(nats: Client, regions: Iterable[str]) -> None:
    """Create or update the hub's streams and those of these regions; what is there already stays as it is.
    Raises StreamRefusedError, and what nats-py raises when the server does not answer."""
    names = sorted(regions)
    for spec in hub_streams(names):
        await _ensure_stream(nats, spec)
    for region in names:
        for mirror in mirrors(region):
            await _ask(nats, mirror.consumer_create_subject, mirror.consumer_request())


async def _ensure_stream(nats: Client, spec: StreamSpec) -> None:
    try:
        await _ask(nats, spec.create_subject, spec.request())
    except StreamRefusedError as refused:
        if refused.err_code != STREAM_EXISTS:
            raise
        await _ask(nats, spec.update_subject, spec.request())
        log.info("stream_updated", stream=spec.name)


async def _ask(nats: Client, subject: str, body: dict[str, object]) -> None:
    reply = await nats.request(subject, json.dumps(body).encode(), timeout=REQUEST_WITHIN_S)
    error = json.loads(reply.data).get("error")
    if error is not None:
        raise StreamRefusedError(f"{subject}: {error.get('description')}", err_code=int(error.get("err_code", 0)))
