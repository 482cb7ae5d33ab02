"""Takes rollups from the hub's stream into the hub's store, each exactly once.

Theory of operation. A durable consumer hands out what waits in the stream. A batch of messages is checked, then counted
in one transaction, together with the place in the stream; only then is it acknowledged. A crash before the commit
counts nothing, a crash after it has the batch handed out again, and (region, node, seq) shows that it was counted. The
store knows its own place: restored from a backup, it reads again what it lost.

What is refused is noted by the fields that were wrong, alarmed, and erased from the stream's file, because it may hold
words that should never have left their region. Nothing of its content is logged.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import apsw
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from contract.subjects import ROLLUP_STREAM
from contract.uplink_pb2 import Rollup
from controlplane.cancelling import raise_if_cancelled
from controlplane.database import HubDatabase
from controlplane.erasing import erase, name_or_nothing
from controlplane.errors import HubDatabaseError
from controlplane.rollups import store
from controlplane.rollups.metrics import RollupMetrics
from controlplane.rollups.ports import KnownNames
from controlplane.rollups.store import Outcome, Refusal
from controlplane.rollups.validation import Arrived, read_rollup

log = structlog.get_logger(__name__)

CONSUMER = "rollups-ingest"
# At most 512 KiB each, most of them a hundredth of it.
BATCH = 64
FETCH_WITHIN_S = 2.0
# What was handed out to an instance that died is handed out again after this long.
ACK_WAIT_S = 30.0
RETRY_AFTER_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """A message, and the rollup in it unless it has problems."""

    message: Msg
    stream_seq: int
    sent_at_ms: int
    region: str
    node: str
    rollup: Rollup
    problems: Sequence[str]


class RollupIngest:
    """Counts rollups while `run` runs; only the active instance of the hub has one."""

    def __init__(
        self,
        nats: Client,
        database: HubDatabase,
        *,
        names: KnownNames,
        metrics: RollupMetrics,
        ack_wait_s: float = ACK_WAIT_S,
    ) -> None:
        self._nats = nats
        self._database = database
        self._names = names
        self._metrics = metrics
        self._ack_wait_s = ack_wait_s

    async def run(self) -> None:
        """Take what comes, for ever."""
        while True:
            try:
                await self._follow()
            except (NatsError, HubDatabaseError, TimeoutError) as error:
                log.warning("rollups_not_taken", error=type(error).__name__)
            raise_if_cancelled()
            await asyncio.sleep(RETRY_AFTER_S)

    async def _follow(self) -> None:
        jetstream = self._nats.jetstream()
        await self._prepare_consumer(jetstream)
        subscription = await jetstream.pull_subscribe_bind(CONSUMER, stream=ROLLUP_STREAM)
        try:
            while True:
                messages = await _fetch(subscription)
                raise_if_cancelled()
                try:
                    await self.take(messages)
                except (NatsError, HubDatabaseError, TimeoutError):
                    await _give_back(messages)
                    raise
        finally:
            if self._nats.is_connected:
                await subscription.unsubscribe()

    async def take(self, messages: Sequence[Msg]) -> None:
        """Count a batch, then acknowledge it. Raises HubDatabaseError, TimeoutError, and errors of nats-py."""
        if not messages:
            return
        now_ms = time.time_ns() // 1_000_000
        # A large rollup takes 50 ms to check: the loop must go on meanwhile, to keep the lease.
        checked = await asyncio.to_thread(lambda: [self._check(message, now_ms) for message in messages])
        outcomes = await self._database.write(lambda connection: _store(connection, checked, now_ms))
        for one, outcome in zip(checked, outcomes, strict=True):
            self._metrics.rollups.labels(outcome.value).inc()
            if outcome is Outcome.COUNTED:
                self._metrics.count_rollup(one.rollup)
            elif outcome is Outcome.CONFLICTING:
                log.error("rollup_conflicts", region=one.region, node=one.node, seq=one.rollup.seq)
            elif outcome is Outcome.REFUSED:
                await self._erase(one)
            await one.message.ack()

    def _check(self, message: Msg, now_ms: int) -> _Checked:
        _, region, _, node = message.subject.split(".")
        arrived = Arrived(region=region, node=node, payload=message.data, headers=message.headers, now_ms=now_ms)
        rollup, problems = read_rollup(arrived, self._names)
        metadata = message.metadata
        return _Checked(
            message=message,
            stream_seq=metadata.sequence.stream,
            sent_at_ms=round(metadata.timestamp.timestamp() * 1000),
            region=name_or_nothing(region),
            node=name_or_nothing(node),
            rollup=rollup,
            problems=problems,
        )

    async def _erase(self, refused: _Checked) -> None:
        """Overwrite a refused message in the stream's file."""
        log.error(
            "rollup_refused",
            region=refused.region,
            node=refused.node,
            stream_seq=refused.stream_seq,
            problem=refused.problems[0],
        )
        self._metrics.refused_alarm.labels(refused.region).set_to_current_time()
        await erase(self._nats, ROLLUP_STREAM, refused.stream_seq)

    async def _prepare_consumer(self, jetstream: JetStreamContext) -> None:
        """The durable consumer, at the place of the store or before it."""
        try:
            consumer = await jetstream.consumer_info(ROLLUP_STREAM, CONSUMER)
        except NotFoundError:
            # The first start, or a new stream: what the store has already is not counted again.
            await self._database.write(lambda connection: store.move_position(connection, 0))
            await jetstream.add_consumer(ROLLUP_STREAM, self._consumer(first=1))
            return
        position = await self._database.read(store.read_position)
        acknowledged = consumer.ack_floor.stream_seq if consumer.ack_floor is not None else 0
        if acknowledged > position:
            log.warning("rollups_read_again", counted=position, acknowledged=acknowledged)
            await jetstream.delete_consumer(ROLLUP_STREAM, CONSUMER)
            await jetstream.add_consumer(ROLLUP_STREAM, self._consumer(first=position + 1))

    def _consumer(self, *, first: int) -> ConsumerConfig:
        return ConsumerConfig(
            durable_name=CONSUMER,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=first,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait_s,
            max_ack_pending=BATCH,
        )


async def _fetch(subscription: JetStreamContext.PullSubscription) -> list[Msg]:
    try:
        return await subscription.fetch(BATCH, timeout=FETCH_WITHIN_S)
    except TimeoutError:  # nothing came
        return []


async def _give_back(messages: Sequence[Msg]) -> None:
    """Have messages handed out again soon; those that are acknowledged already stay so."""
    for message in messages:
        with contextlib.suppress(NatsError):
            await message.nak(delay=RETRY_AFTER_S)


def _store(connection: apsw.Connection, checked: Sequence[_Checked], now_ms: int) -> list[Outcome]:
    outcomes = [_store_one(connection, one, now_ms) for one in checked]
    newest = max(one.stream_seq for one in checked)
    store.move_position(connection, max(newest, store.read_position(connection)))
    return outcomes


def _store_one(connection: apsw.Connection, one: _Checked, now_ms: int) -> Outcome:
    if not one.problems:
        return store.count(connection, one.rollup, one.message.data, now_ms)
    refusal = Refusal(
        stream_seq=one.stream_seq,
        sent_at_ms=one.sent_at_ms,
        region=one.region,
        node=one.node,
        problem=one.problems[0],
    )
    store.refuse(connection, refusal)
    return Outcome.REFUSED
