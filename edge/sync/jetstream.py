"""What nats-py cannot say: raw requests to the JetStream API, and reading parts of a mirrored stream."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from edge.sync.connection import MALFORMED, NATS_ERRORS, REQUEST_WITHIN_S

HEARTBEAT_S = 1.0
SILENT_AFTER_S = 3 * HEARTBEAT_S
# Should this process die, the server forgets a consumer after this long.
FORGOTTEN_AFTER_S = 30.0
MALFORMED_STATUS = 502


class JetStreamError(nats.errors.Error):
    """JetStream refused a request. `status` is as in HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def api_request(client: Client, subject: str, body: Mapping[str, object] | bytes = b"") -> dict[str, object]:
    """Ask the JetStream API. Raises JetStreamError and NATS_ERRORS."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    reply = await client.request(subject, payload, timeout=REQUEST_WITHIN_S)
    with _well_formed():
        answer = dict(json.loads(reply.data))
        error = answer.get("error")
        if error is not None:
            raise JetStreamError(int(error["code"]), str(error.get("description", "")))
    return answer


@contextlib.contextmanager
def _well_formed() -> Iterator[None]:
    """An answer that cannot be read is a failed request, whoever sent it. Raises JetStreamError."""
    try:
        yield
    except MALFORMED as error:
        raise JetStreamError(MALFORMED_STATUS, f"malformed answer: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumed:
    """A message, and how many of the consumer's are still to come after it."""

    message: Msg
    pending: int


@contextlib.asynccontextmanager
async def consuming(
    client: Client, stream: str, *, subject: str, policy: DeliverPolicy
) -> AsyncIterator[AsyncIterator[Consumed]]:
    """Read a stream by an ephemeral push consumer with heartbeats.

    The iterator ends at a gap in the consumer's sequence and raises NATS_ERRORS when the stream falls silent.
    """
    js = client.jetstream(timeout=REQUEST_WITHIN_S)
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    try:
        config = ConsumerConfig(
            deliver_subject=inbox,
            deliver_policy=policy,
            filter_subject=subject,
            ack_policy=AckPolicy.NONE,
            flow_control=True,
            idle_heartbeat=HEARTBEAT_S,
            inactive_threshold=FORGOTTEN_AFTER_S,
            mem_storage=True,
            num_replicas=1,
        )
        with _well_formed():
            consumer = await js.add_consumer(stream, config)
        try:
            yield _messages(client, subscription)
        finally:
            with contextlib.suppress(*NATS_ERRORS):
                await js.delete_consumer(stream, consumer.name)
    finally:
        with contextlib.suppress(*NATS_ERRORS):
            await subscription.unsubscribe()


async def _messages(client: Client, subscription: Subscription) -> AsyncIterator[Consumed]:
    expected = 1
    while True:
        message = await subscription.next_msg(timeout=SILENT_AFTER_S)
        if message.headers is not None and message.headers.get("Status") == "100":
            # Flow control is answered, or the server stops sending; a heartbeat may carry such a request in a header.
            answer_to = message.reply or message.headers.get("Nats-Consumer-Stalled", "")
            if answer_to:
                await client.publish(answer_to)
            continue
        with _well_formed():
            metadata = message.metadata
        if metadata.sequence.consumer != expected:
            return
        expected += 1
        yield Consumed(message=message, pending=metadata.num_pending)
