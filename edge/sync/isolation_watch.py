"""Asks the servers of the region, and keeps calls away from this node while it is isolated (isolation.py judges).

The file `isolated` in the sync folder says so to the node's workers (cordon.py). It outlives this process: an agent
that is started again on the wrong side of a partition goes on as it was.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

import structlog
from nats.aio.msg import Msg

from contract.alarms import AlarmCode
from edge.sync.alarms import Alarms
from edge.sync.connection import MALFORMED, NATS_ERRORS, NatsLink, raise_if_cancelled
from edge.sync.isolation import LOOK_EVERY_S, Isolation, word_of

log = structlog.get_logger(__name__)

# What came while this loop was late is read before it is judged: that takes a few of its rounds.
READ_WITHIN_S = 0.05
ASK_SERVERS = "$SYS.REQ.SERVER.PING.STATSZ"


@dataclass(slots=True, kw_only=True)
class IsolationWatch:
    """Looks twice a second. `own` is a connection to the node's own server, as its system user, and to no other;
    `isolation` is None where the rule does not hold: in a region whose streams have no majority to lose."""

    region: str
    own: NatsLink
    file: Path
    isolation: Isolation | None
    node_alarms: Alarms

    async def run(self) -> None:
        """Look until cancelled, whatever happens to NATS."""
        if self.isolation is None:
            await asyncio.to_thread(self.file.unlink, missing_ok=True)
            return
        await self._keep(is_isolated=self.isolation.is_isolated)
        await self.own.ready()
        inbox = self.own.client.new_inbox()
        await self.own.client.subscribe(inbox, cb=self._hear)
        while True:
            if self.own.is_up:
                with contextlib.suppress(*NATS_ERRORS):
                    await self.own.client.publish(ASK_SERVERS, reply=inbox)
            else:
                self.isolation.forget_own()
            await asyncio.sleep(LOOK_EVERY_S - READ_WITHIN_S)
            await asyncio.sleep(READ_WITHIN_S)
            await self._judge(self.isolation)
            raise_if_cancelled()

    async def _hear(self, message: Msg) -> None:
        assert self.isolation is not None
        try:
            word = word_of(message.data, self.region)
        except MALFORMED as error:
            log.warning("server_answer_malformed", detail=type(error).__name__)
            return
        if word is not None:
            self.isolation.hear(word, time.monotonic())

    async def _judge(self, isolation: Isolation) -> None:
        now, was = time.monotonic(), isolation.is_isolated
        if isolation.judge(now) != was:
            log.warning("isolation_began" if not was else "isolation_ended", servers_heard=isolation.heard(now))
        await self._keep(is_isolated=isolation.is_isolated)

    async def _keep(self, *, is_isolated: bool) -> None:
        self.node_alarms.set(AlarmCode.ISOLATED, is_raised=is_isolated)
        try:
            if is_isolated != self.file.exists():
                await asyncio.to_thread(self.file.touch if is_isolated else self.file.unlink)
        except OSError as error:
            # Tried again at the next look.
            log.error("isolation_not_noted", detail=type(error).__name__)  # noqa: TRY400
