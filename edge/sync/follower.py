"""Reads a mirrored stream: the newest message of each subject at first, then what comes, in order.

An ephemeral push consumer with idle heartbeats. A missed heartbeat, a gap in the consumer's sequence, a lost stream or
a wish to `renew` all lead to the same: a new consumer, which starts with the newest of each subject again. Handlers
must take a message twice without harm.
"""

import asyncio
import contextlib
from collections.abc import Callable

import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from edge.sync.connection import NATS_ERRORS, NatsLink

log = structlog.get_logger(__name__)

HEARTBEAT_S = 1.0
_SILENT_AFTER_S = 3 * HEARTBEAT_S
_RETRY_AFTER_S = 1.0
# Should this process die, the server forgets the consumer after this long.
_FORGOTTEN_AFTER_S = 30.0


class StreamFollower:
    """Hands every message of a stream to `handle`, which must not block or wait."""

    def __init__(self, link: NatsLink, stream: str, handle: Callable[[str, bytes], None]) -> None:
        self.stream = stream
        self.consumers_made = 0
        self._link = link
        self._handle = handle
        self._is_renewal_wanted = False

    def renew(self) -> None:
        """Make the consumer anew, within a heartbeat."""
        self._is_renewal_wanted = True

    async def run(self) -> None:
        """Follow until cancelled, whatever happens to NATS."""
        while True:
            with contextlib.suppress(*NATS_ERRORS):
                await self._follow()
            await asyncio.sleep(_RETRY_AFTER_S)

    async def _follow(self) -> None:
        js = await self._link.ready()
        client = self._link.client
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox)
        try:
            consumer = await js.add_consumer(self.stream, _consumer(inbox))
            self.consumers_made += 1
            self._is_renewal_wanted = False
            try:
                await self._read(subscription)
            finally:
                with contextlib.suppress(*NATS_ERRORS):
                    await js.delete_consumer(self.stream, consumer.name)
        finally:
            with contextlib.suppress(*NATS_ERRORS):
                await subscription.unsubscribe()

    async def _read(self, subscription: Subscription) -> None:
        expected = 1
        while not self._is_renewal_wanted:
            message = await subscription.next_msg(timeout=_SILENT_AFTER_S)
            if message.headers is not None and message.headers.get("Status") == "100":
                await _answer_control(message)
                continue
            if message.metadata.sequence.consumer != expected:
                log.warning("stream_gap", stream=self.stream)
                return
            expected += 1
            self._handle(message.subject, message.data)


def _consumer(inbox: str) -> ConsumerConfig:
    return ConsumerConfig(
        deliver_subject=inbox,
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        filter_subject=">",
        ack_policy=AckPolicy.NONE,
        flow_control=True,
        idle_heartbeat=HEARTBEAT_S,
        inactive_threshold=_FORGOTTEN_AFTER_S,
        mem_storage=True,
        num_replicas=1,
    )


async def _answer_control(message: Msg) -> None:
    """Flow control is answered, or the server stops sending; a heartbeat may carry such a request in a header."""
    stalled = (message.headers or {}).get("Nats-Consumer-Stalled")
    if message.reply:
        await message.respond(b"")
    elif stalled:
        await message._client.publish(stalled)  # noqa: SLF001 - the message knows its client, nats-py gives no other way
