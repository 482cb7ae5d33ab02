"""What goes up of the node's state: health every few seconds, acks until the hub has stored them."""

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from contract import subjects
from contract.uplink_guard import check
from contract.uplink_pb2 import Health
from edge.sync.acks import AckOutbox
from edge.sync.connection import NATS_ERRORS, NatsLink

log = structlog.get_logger(__name__)

_RETRY_AFTER_S = 1.0


class Uplink:
    """Sends for one node. Nothing here raises because the hub is away."""

    def __init__(self, link: NatsLink, region: str, node: str) -> None:
        self._link = link
        self._region = region
        self._node = node

    async def send_acks(self, acks: AckOutbox) -> None:
        """Send acks as they are written, each until the hub has it."""
        while True:
            await acks.is_filled.wait()
            acks.is_filled.clear()
            for path, payload in acks.waiting():
                if await self.stored(subjects.ack(self._region, self._node), payload):
                    acks.confirm(path, payload)
            if acks.waiting():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_RETRY_AFTER_S):
                        await acks.is_filled.wait()
                acks.is_filled.set()

    async def send_health(self, health: Callable[[], Health], *, every_s: float) -> None:
        """Say how the node is; a message that cannot go now is of no use later."""
        while True:
            if self._link.is_up:
                await self._send_health(health())
            await asyncio.sleep(every_s)

    async def _send_health(self, message: Health) -> None:
        problems = check(message)
        if problems:
            # Our bug; the hub would refuse it, and what is wrong must not leave the region to say so.
            log.error("health_not_sent", problems=problems)
            return
        await self.stored(subjects.health(self._region, self._node), message.SerializeToString())

    async def stored(self, subject: str, payload: bytes, *, message_id: str = "") -> bool:
        """Whether the hub has stored a message."""
        try:
            await self._link.publish_to_hub(subject, payload, message_id=message_id)
        except NATS_ERRORS:
            return False
        return True
