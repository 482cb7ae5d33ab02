"""Asterisk is killed under a call: the call ends at once, its caller may ring back, the next Asterisk is served."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge.call.reception import Reception
from edge.call.saved_call import SavedCall
from edge.call.slots import SlotLedger
from edge.conversation.dialogue import CallOutcome
from edge.records.model import CallRecord, Record
from edge.telephony.ari import AriClient
from edge.telephony.inbound import InboundCalls
from provisioning.asterisk.instance import AsteriskInstance
from tests.asterisk_pair import AsteriskPair, pair_settings, require_asterisk
from tests.edge.call.test_reload import SHOP_NUMBER
from tests.edge.telephony.carrier_caller import Carrier
from tests.edge.telephony.conftest import APP, address_of
from tests.edge.telephony.test_calls import assert_nothing_left, hear, next_call
from tests.edge.telephony.test_one_bad_call import shop

WITHIN_S = 60.0


@dataclass
class ToldSessions:
    """What the region would be told of ended calls: cut off or not."""

    cut_off: list[bool] = field(default_factory=list)

    def keep(self, call: SavedCall, *, window_s: float) -> None:
        """Where it stands is not looked at."""

    def ended(self, call_id: str, *, is_cut_off: bool) -> None:
        self.cut_off.append(is_cut_off)


@asynccontextmanager
async def worker(folder: Path, records: list[Record], told: ToldSessions) -> AsyncIterator[Reception]:
    """A worker with one slot."""
    slots = SlotLedger(directory=folder / "slots", capacity=1)
    async with shop(folder) as reception:
        yield replace(reception, keep=records.append, sessions=told, slots=slots)


async def until_running(reception: Reception) -> None:
    while not reception.running:
        await asyncio.sleep(0.02)


async def test_calls_end_with_their_asterisk_and_the_next_one_is_served(tmp_path: Path) -> None:
    root, records, told = require_asterisk(), list[Record](), ToldSessions()
    node_settings, carrier_settings = pair_settings(tmp_path, stasis_apps=(APP,))
    async with AsyncExitStack() as stack, asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as tasks:
        outside = await stack.enter_async_context(AsteriskInstance(root, carrier_settings))
        first = await stack.enter_async_context(AsteriskInstance(root, node_settings))
        client = await stack.enter_async_context(AriClient(address_of(node_settings)))
        calls = await stack.enter_async_context(InboundCalls(client, app=APP))
        carrier_client = await stack.enter_async_context(AriClient(address_of(carrier_settings)))
        pair = AsteriskPair(node=first, carrier=outside)
        carrier = await stack.enter_async_context(Carrier.open(carrier_client, pair))
        reception = await stack.enter_async_context(worker(tmp_path, records, told))
        async with carrier.ring(SHOP_NUMBER):
            carrying = tasks.create_task(reception.take(calls, await next_call(calls)))
            await until_running(reception)
            os.kill(first.pid, signal.SIGKILL)
            # Nothing brings Asterisk back before the call is over: what tells is that nobody listens any more.
            await carrying
        assert ended(records) == [(CallOutcome.FAILED, "leg_lost")]
        assert told.cut_off == [True]
        assert reception.slots.in_use() == 0
        await first.wait()
        await stack.enter_async_context(AsteriskInstance(root, node_settings))
        await calls.wait_registered()
        async with carrier.ring(SHOP_NUMBER) as caller:
            carrying = tasks.create_task(reception.take(calls, await next_call(calls)))
            async with carrier.talk(caller) as media:
                await hear(media.leg, loud=True)
        await carrying
        await assert_nothing_left(client)
    (_, (outcome, _)) = ended(records)
    assert outcome is not CallOutcome.FAILED
    assert told.cut_off == [True, False]


def ended(records: list[Record]) -> list[tuple[CallOutcome | None, str | None]]:
    calls = [each for each in records if isinstance(each, CallRecord) and each.ended_at is not None]
    return [(each.outcome, each.reason) for each in calls]
