"""Reads a mirrored stream: the newest message of each subject at first, then what comes, in order.

A missed heartbeat, a gap in the sequence, a lost stream or a wish to `renew` all lead to a new consumer, which
starts with the newest of each subject again. Handlers must take a message twice without harm.
"""

import asyncio
import contextlib
from collections.abc import Callable

from nats.js.api import DeliverPolicy

from edge.sync.connection import NATS_ERRORS, NatsLink
from edge.sync.jetstream import consuming

_RETRY_AFTER_S = 1.0


class StreamFollower:
    """Hands every message of a stream, subject and payload, to `handle`, which must not block."""

    def __init__(self, link: NatsLink, stream: str, handle: Callable[[str, bytes], None]) -> None:
        self.stream = stream
        self.consumers_made = 0
        self._link = link
        self._handle = handle
        self._reading: asyncio.Task[None] | None = None

    def renew(self) -> None:
        """Make the consumer anew."""
        if self._reading is not None:
            self._reading.cancel()

    async def run(self) -> None:
        """Follow until cancelled, whatever happens to NATS."""
        await self._link.ready()
        while True:
            async with asyncio.TaskGroup() as tasks:
                self._reading = tasks.create_task(self._read(), name=f"read:{self.stream}")
            await asyncio.sleep(_RETRY_AFTER_S)

    async def _read(self) -> None:
        with contextlib.suppress(*NATS_ERRORS):
            async with consuming(
                self._link.client, self.stream, subject=">", policy=DeliverPolicy.LAST_PER_SUBJECT
            ) as messages:
                self.consumers_made += 1
                async for consumed in messages:
                    self._handle(consumed.message.subject, consumed.message.data)
