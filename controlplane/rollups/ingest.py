"""Takes rollups from the hub's stream into the hub's store, each exactly once.

Theory of operation. A durable consumer hands out what waits in the stream. A batch of messages is checked, then counted
in one transaction, together with the place in the stream; only then is it acknowledged. A crash before the commit
counts nothing, a crash after it has the batch handed out again, and (region, node, seq) shows that it was counted. The
store knows its own place: restored from a backup, it reads again what it lost.

What is refused is noted by the fields that were wrong, alarmed, and erased from the stream's file, because it may hold
words that should never have left their region. Nothing of its content is logged.

What only names what is not known yet (validation.NotYet: the hub's documents were restored, a clock is ahead) stays in
the stream and is tried again for a day. It is acknowledged all the same and noted in the store, so that it holds up
nothing; after the day it is refused.
"""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import apsw
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, RawStreamMsg
from nats.js.errors import NotFoundError

from contract.subjects import ROLLUP_STREAM
from contract.uplink_pb2 import Rollup
from controlplane.cancelling import raise_if_cancelled
from controlplane.database import HubDatabase
from controlplane.erasing import erase, name_or_nothing
from controlplane.errors import HubDatabaseError
from controlplane.rollups import capacity, store
from controlplane.rollups.metrics import RollupMetrics
from controlplane.rollups.ports import KnownNames
from controlplane.rollups.store import Outcome, Refusal
from controlplane.rollups.validation import Arrived, NotYet, read_rollup

log = structlog.get_logger(__name__)

CONSUMER = "rollups-ingest"
# At most 512 KiB each, most of them a hundredth of it.
BATCH = 64
FETCH_WITHIN_S = 2.0
# What was handed out to an instance that died is handed out again after this long.
ACK_WAIT_S = 30.0
RETRY_AFTER_S = 1.0
KEPT_MS = 24 * 3_600_000
TRY_KEPT_EVERY_MS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Checked:
    """A message of the stream, and the rollup in it unless it has problems."""

    payload: bytes
    stream_seq: int
    sent_at_ms: int
    region: str
    node: str
    rollup: Rollup
    problems: Sequence[str]

    def may_be_kept(self, now_ms: int) -> bool:
        """Whether nothing is wrong but what may become known."""
        is_young = now_ms - self.sent_at_ms < KEPT_MS
        return is_young and all(isinstance(problem, NotYet) for problem in self.problems)


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
        try_kept_every_ms: int = TRY_KEPT_EVERY_MS,
    ) -> None:
        self._try_kept_every_ms = try_kept_every_ms
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
                await self.try_kept(jetstream)
        finally:
            if self._nats.is_connected:
                await subscription.unsubscribe()

    async def take(self, messages: Sequence[Msg]) -> None:
        """Count a batch, then acknowledge it. Raises HubDatabaseError, TimeoutError, and errors of nats-py."""
        if not messages:
            return
        now_ms = time.time_ns() // 1_000_000
        # A large rollup takes 50 ms to check: the loop must go on meanwhile, to keep the lease.
        checked = await asyncio.to_thread(lambda: [self._check_new(message, now_ms) for message in messages])
        await self._settle(checked, now_ms)
        for message in messages:
            await message.ack()

    async def try_kept(self, jetstream: JetStreamContext) -> None:
        """Look again at rollups that named what was not known. Raises as `take`."""
        now_ms = time.time_ns() // 1_000_000
        before_ms = now_ms - self._try_kept_every_ms
        seqs = await self._database.read(lambda connection: store.kept(connection, before_ms, BATCH))
        checked = []
        for seq in seqs:
            try:
                found = await jetstream.get_msg(ROLLUP_STREAM, seq)
            except NotFoundError:  # it was there for a week
                await self._drop_kept(seq)
                continue
            checked.append(await asyncio.to_thread(self._check_kept, found, now_ms))
        if checked:
            await self._settle(checked, now_ms, is_first=False)

    async def _drop_kept(self, stream_seq: int) -> None:
        await self._database.write(lambda connection: store.drop_kept(connection, stream_seq))

    async def _settle(self, checked: Sequence[_Checked], now_ms: int, *, is_first: bool = True) -> None:
        outcomes = await self._database.write(lambda connection: _store(connection, checked, now_ms))
        for one, outcome in zip(checked, outcomes, strict=True):
            if is_first or outcome is not Outcome.KEPT:
                self._metrics.rollups.labels(outcome.value).inc()
            if outcome is Outcome.COUNTED:
                self._metrics.count_rollup(one.rollup)
            elif outcome is Outcome.CONFLICTING:
                log.error("rollup_conflicts", region=one.region, node=one.node, seq=one.rollup.seq)
            elif outcome is Outcome.KEPT and is_first:
                log.warning("rollup_kept", region=one.region, node=one.node, problem=one.problems[0])
            elif outcome is Outcome.REFUSED:
                await self._erase(one)
                if not is_first:
                    await self._drop_kept(one.stream_seq)

    def _check_new(self, message: Msg, now_ms: int) -> _Checked:
        metadata = message.metadata
        place = (metadata.sequence.stream, round(metadata.timestamp.timestamp() * 1000))
        return self._check(place, message.subject, message.data, message.headers, now_ms)

    def _check_kept(self, message: RawStreamMsg, now_ms: int) -> _Checked:
        assert message.seq is not None
        assert message.time is not None
        place = (message.seq, round(message.time.timestamp() * 1000))
        return self._check(place, message.subject or "", message.data or b"", message.headers, now_ms)

    def _check(
        self, place: tuple[int, int], subject: str, payload: bytes, headers: Mapping[str, str] | None, now_ms: int
    ) -> _Checked:
        _, region, _, node = subject.split(".")
        arrived = Arrived(region=region, node=node, payload=payload, headers=headers, now_ms=now_ms)
        rollup, problems = read_rollup(arrived, self._names)
        return _Checked(
            payload=payload,
            stream_seq=place[0],
            sent_at_ms=place[1],
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
        store.drop_kept(connection, one.stream_seq)
        outcome = store.count(connection, one.rollup, one.payload, now_ms)
        if outcome is Outcome.COUNTED:
            capacity.add(connection, one.rollup, now_ms)
        return outcome
    if one.may_be_kept(now_ms) and store.keep(connection, one.stream_seq, one.sent_at_ms, now_ms):
        return Outcome.KEPT
    refusal = Refusal(
        stream_seq=one.stream_seq,
        sent_at_ms=one.sent_at_ms,
        region=one.region,
        node=one.node,
        problem=one.problems[0],
    )
    store.refuse(connection, refusal)
    return Outcome.REFUSED
