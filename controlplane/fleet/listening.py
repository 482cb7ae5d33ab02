"""Hears what nodes say: all that the stream of states holds, and then what comes, as it comes. Answers pings.

The stream is read from its beginning at start, after every reconnect, and when nothing was heard for long; the newest
message of a node counts. What says more than it may is counted, noted by the fields that were wrong, and erased from
the stream's file, because it may hold words that should never have left their region.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy

from contract import uplink_guard
from contract.subjects import STATE_STREAM, STATE_SUBJECTS, ping
from contract.uplink_pb2 import Health
from controlplane.cancelling import raise_if_cancelled
from controlplane.erasing import erase, name_or_nothing
from controlplane.fleet.states import FleetStates
from controlplane.fleet.validation import Arrived, KnownNames, read_state
from controlplane.metrics import HubMetrics

log = structlog.get_logger(__name__)

ANY = "*"
PING = "ping"
RETRY_AFTER_S = 1.0
# Nodes tell their health every few seconds: after so long without any the subscription may be dead.
SUBSCRIBE_AGAIN_AFTER_S = 30.0


class FleetListener:
    """Feeds the states of the fleet while `run` runs."""

    def __init__(self, nats: Client, states: FleetStates, names: KnownNames, metrics: HubMetrics) -> None:
        self._nats = nats
        self._states = states
        self._names = names
        self._metrics = metrics
        self._again = asyncio.Event()
        self._has_heard = False

    def reconnected(self) -> None:
        """What came meanwhile was missed: read it from the stream."""
        self._again.set()

    async def run(self) -> None:
        """Listen for ever."""
        pings = await self._nats.subscribe(ping(ANY, ANY), cb=self._answer)
        try:
            while True:
                self._again.clear()
                try:
                    async with self._listening():
                        raise_if_cancelled()
                        await self._until_again()
                except (NatsError, TimeoutError) as error:
                    log.warning("fleet_not_heard", error=type(error).__name__)
                    raise_if_cancelled()
                    await asyncio.sleep(RETRY_AFTER_S)
        finally:
            if self._nats.is_connected:
                await pings.unsubscribe()

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        subscription = await self._subscribe()
        try:
            yield
        finally:
            # A connection that is gone has taken the subscription with it.
            with contextlib.suppress(NatsError):
                await asyncio.shield(subscription.unsubscribe())

    async def _subscribe(self) -> JetStreamContext.PushSubscription:
        return await self._nats.jetstream().subscribe(
            STATE_SUBJECTS[0],
            stream=STATE_STREAM,
            ordered_consumer=True,
            config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL, filter_subjects=list(STATE_SUBJECTS)),
            cb=self._take,
        )

    async def _until_again(self) -> None:
        """Wait for a reason to read the stream anew."""
        self._has_heard = True
        while self._has_heard:
            self._has_heard = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SUBSCRIBE_AGAIN_AFTER_S):
                    await self._again.wait()
                    return

    async def _take(self, message: Msg) -> None:
        self._has_heard = True
        _, region, kind, node = message.subject.split(".")
        arrived = Arrived(region=region, kind=kind, node=node, payload=message.data, headers=message.headers)
        said, problems = read_state(arrived, self._names)
        heard_at_ms = round(message.metadata.timestamp.timestamp() * 1000)
        if problems:
            await self._refuse(arrived, problems, message.metadata.sequence.stream)
        elif isinstance(said, Health):
            self._states.take_health(said, heard_at_ms=heard_at_ms)
        else:
            self._states.take_ack(said, heard_at_ms=heard_at_ms)

    async def _refuse(self, arrived: Arrived, problems: list[str], stream_seq: int) -> None:
        self._count(arrived.region, arrived.kind, arrived.node, problems)
        try:
            await erase(self._nats, STATE_STREAM, stream_seq)
        except (NatsError, TimeoutError) as error:
            # It is met again, and erased then, when the stream is next read.
            log.warning("state_not_erased", stream_seq=stream_seq, error=type(error).__name__)

    async def _answer(self, message: Msg) -> None:
        problems = uplink_guard.check_ping(message.data, message.headers)
        if problems:
            _, region, _, node = message.subject.split(".")
            self._count(region, PING, node, problems)
        else:
            await message.respond(b"")

    def _count(self, region: str, kind: str, node: str, problems: list[str]) -> None:
        region, node = name_or_nothing(region), name_or_nothing(node)
        log.error("state_refused", region=region, node=node, kind=kind, problem=problems[0])
        self._metrics.states_refused.labels(region, kind).inc()
        self._metrics.state_refused_at.labels(region).set_to_current_time()
