"""Hears what nodes say: health and acks as they come, and all that the stream still holds at start and after every
reconnect. Answers pings."""

import asyncio
import time

import structlog
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from contract.subjects import STATE_STREAM, ack, health, ping
from contract.uplink_pb2 import Ack, Health
from controlplane.cancelling import raise_if_cancelled
from controlplane.fleet.states import FleetStates

log = structlog.get_logger(__name__)

ANY = "*"
BATCH = 256
FETCH_WITHIN_S = 2.0
RETRY_AFTER_S = 1.0


class FleetListener:
    """Feeds the states of the fleet while `run` runs."""

    def __init__(self, nats: Client, jetstream: JetStreamContext, states: FleetStates) -> None:
        self._nats = nats
        self._jetstream = jetstream
        self._states = states
        self._reconnected = asyncio.Event()

    def reconnected(self) -> None:
        """What came meanwhile was missed: read it from the stream."""
        self._reconnected.set()

    async def run(self) -> None:
        """Listen for ever."""
        subscriptions = [
            await self._nats.subscribe(health(ANY, ANY), cb=self._on_message),
            await self._nats.subscribe(ack(ANY, ANY), cb=self._on_message),
            await self._nats.subscribe(ping(ANY, ANY), cb=_answer),
        ]
        try:
            while True:
                self._reconnected.clear()
                try:
                    await self.catch_up()
                except (NatsError, TimeoutError) as error:
                    log.warning("fleet_catch_up_failed", error=type(error).__name__)
                    raise_if_cancelled()
                    await asyncio.sleep(RETRY_AFTER_S)
                    continue
                raise_if_cancelled()
                await self._reconnected.wait()
        finally:
            if self._nats.is_connected:
                for subscription in subscriptions:
                    await subscription.unsubscribe()

    async def catch_up(self) -> None:
        """Read the newest health of each node, and all acks that the stream holds."""
        await self._read(health(ANY, ANY), DeliverPolicy.LAST_PER_SUBJECT)
        await self._read(ack(ANY, ANY), DeliverPolicy.ALL)

    async def _read(self, subject: str, policy: DeliverPolicy) -> None:
        subscription = await self._jetstream.pull_subscribe(
            subject, stream=STATE_STREAM, config=ConsumerConfig(deliver_policy=policy, ack_policy=AckPolicy.NONE)
        )
        try:
            waiting = (await subscription.consumer_info()).num_pending or 0
            while waiting > 0:
                messages = await subscription.fetch(min(BATCH, waiting), timeout=FETCH_WITHIN_S)
                for message in messages:
                    await self._take(message, heard_at_ms=round(message.metadata.timestamp.timestamp() * 1000))
                waiting -= len(messages)
        finally:
            await subscription.unsubscribe()

    async def _on_message(self, message: Msg) -> None:
        await self._take(message, heard_at_ms=time.time_ns() // 1_000_000)

    async def _take(self, message: Msg, *, heard_at_ms: int) -> None:
        _, region, kind, node = message.subject.split(".")
        said: Health | Ack
        try:
            said = Health.FromString(message.data) if kind == "health" else Ack.FromString(message.data)
        except DecodeError:
            log.warning("state_malformed", region=region, node=node)
            return
        if (said.region, said.node) != (region, node):
            log.warning("state_of_another", region=region, node=node)
        elif isinstance(said, Health):
            self._states.take_health(said, heard_at_ms=heard_at_ms)
        else:
            self._states.take_ack(said)


async def _answer(message: Msg) -> None:
    await message.respond(b"")
