"""What the hub does with a message that it refused: it takes it out of the stream's file, and repeats nothing of it."""

import json

import structlog
from nats.aio.client import Client

from contract.names import is_region

log = structlog.get_logger(__name__)

REQUEST_WITHIN_S = 5.0


async def erase(nats: Client, stream: str, seq: int) -> None:
    """Overwrite a message in the stream's file. Raises TimeoutError and errors of nats-py."""
    body = json.dumps({"seq": seq, "no_erase": False}).encode()
    answer = await nats.request(f"$JS.API.STREAM.MSG.DELETE.{stream}", body, timeout=REQUEST_WITHIN_S)
    reply = json.loads(answer.data)
    if not reply.get("success"):
        log.warning("message_not_erased", stream=stream, seq=seq, reason=reply.get("error", {}).get("code"))


def name_or_nothing(token: str) -> str:
    """A token of a subject, if it is no words or number of somebody's."""
    return token if is_region(token) else ""
