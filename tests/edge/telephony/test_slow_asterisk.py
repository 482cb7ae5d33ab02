"""Asterisk stalls just when a worker dies: its callers are still there, and a sibling goes on with them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from edge.call.recorded_states import RecordedStates
from edge.call.siblings import Sibling
from edge.call.takeover import Takeover
from edge.records.store import CallReader, CallStore
from edge.telephony.ari import AriClient
from edge.telephony.inbound import InboundCalls
from tests.asterisk_pair import AsteriskPair
from tests.edge.call.test_reload import SHOP
from tests.edge.call.test_takeover import DATABASE, ignore, store_of
from tests.edge.records.test_orphans import a_call
from tests.edge.telephony.carrier_caller import Carrier
from tests.edge.telephony.conftest import APP, address_of
from tests.edge.telephony.test_adoption import OTHER, answered_and_left
from tests.edge.telephony.test_calls import hear
from tests.edge.telephony.test_one_bad_call import shop

pytestmark = pytest.mark.asyncio(loop_scope="module")
WITHIN_S = 40.0
# A second of each request is enough to see that it is asked again.
REQUEST_TIMEOUT_S = 1.0


@contextmanager
def stalled(pair: AsteriskPair) -> Iterator[None]:
    os.kill(pair.node.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pair.node.pid, signal.SIGCONT)


@asynccontextmanager
async def standing_in(folder: Path, store: CallStore, client: AriClient) -> AsyncIterator[Takeover]:
    """A sibling worker with agents, records and an app of its own."""
    async with shop(folder) as reception, InboundCalls(client, app=APP) as inbound, asyncio.TaskGroup() as tasks:
        states = RecordedStates(store=store, directory=folder, settings=DATABASE, record=ignore)
        yield Takeover(states=states, reception=reception, inbound=inbound, tasks=tasks)


async def left_behind(folder: Path, call_id: str) -> str:
    """The run of a worker that died with this call on record."""
    async with store_of(folder) as dying:
        await dying.save(replace(a_call(call_id), tenant=SHOP, agent="shop-line"))
        return dying.run


async def test_a_stall_at_a_workers_death_costs_no_call(
    tmp_path: Path, pair: AsteriskPair, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(WITHIN_S))
        client = await stack.enter_async_context(AriClient(address_of(pair.node.settings)))
        caller, call = await stack.enter_async_context(answered_and_left(client, carrier))
        run = await left_behind(tmp_path, call.call_id)
        store = await stack.enter_async_context(store_of(tmp_path))
        monkeypatch.setattr("edge.telephony.ari.REQUEST_TIMEOUT_S", REQUEST_TIMEOUT_S)
        impatient = await stack.enter_async_context(AriClient(address_of(pair.node.settings)))
        takeover = await stack.enter_async_context(standing_in(tmp_path, store, impatient))
        with capture_logs() as logs:
            with stalled(pair):
                looking = takeover.tasks.create_task(takeover.sibling_died(Sibling(run=run, app=OTHER)))
                while not any(line["event"] == "asterisk_asked_again" for line in logs):
                    await asyncio.sleep(0.05)
            await looking
        async with carrier.talk(caller) as theirs:
            await hear(theirs.leg, loud=True)
        assert call.call_id in takeover.reception.running
        assert takeover.reception.slots.in_use() == 1
        await carrier.client.hang_up_if_there(caller.channel_id, 16)
        while takeover.reception.running:
            await asyncio.sleep(0.05)
        record = CallReader(tmp_path, SHOP, DATABASE).call(call.call_id)
        assert record is not None
        assert record.outcome is None
