"""What nobody has any more is ended while the worker runs; what somebody has, here or in a sibling, is not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from edge.telephony.ari import AriClient
from edge.telephony.errors import AriUnavailableError
from edge.telephony.inbound import InboundCalls
from edge.telephony.leftovers import find_leftovers
from tests.asterisk_pair import AsteriskPair
from tests.edge.telephony.carrier_caller import Carrier
from tests.edge.telephony.conftest import APP, address_of
from tests.edge.telephony.test_calls import assert_nothing_left, next_call, wait_gone

pytestmark = pytest.mark.asyncio(loop_scope="module")
SIBLING = "calls-1"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits a minute."""
    monkeypatch.setattr("edge.telephony.leftovers.LOOK_EVERY_S", 0.3)
    monkeypatch.setattr("edge.telephony.leftovers.SURE_AFTER_S", 0.3)


@asynccontextmanager
async def worker(client: AriClient, ended: list[str], app: str = APP) -> AsyncIterator[InboundCalls]:
    async with InboundCalls(client, app=app, on_leftover=ended.append) as calls:
        yield calls


async def stall(*arguments: object) -> None:
    raise AriUnavailableError(f"no answer: {arguments}")


@pytest.mark.usefixtures("quick")
async def test_a_caller_who_could_not_be_hung_up_is_ended_later(
    pair: AsteriskPair, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asterisk stalls while a call ends: caller, media channel and bridge stay; the other call goes on."""
    ended = list[str]()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(15))
        client = await stack.enter_async_context(AriClient(address_of(pair.node.settings)))
        calls = await stack.enter_async_context(worker(client, ended))
        other = await stack.enter_async_context(carrier.ring())
        await stack.enter_async_context(calls.accept(await next_call(calls)))
        left = await stack.enter_async_context(carrier.ring())
        with monkeypatch.context() as stalling:
            async with calls.accept(await next_call(calls)):
                stalling.setattr(client, "hang_up", stall)
                stalling.setattr(client, "destroy_bridge_if_there", stall)
        await wait_gone(left)
        while ended.count("bridge") < 1:
            await asyncio.sleep(0.02)
        # The media channel went with its websocket.
        assert sorted(ended) == ["bridge", "channel"]
        assert not other.watch.is_gone
    async with AriClient(address_of(pair.node.settings)) as client:
        await assert_nothing_left(client)


async def test_after_a_broken_connection_what_nobody_has_is_looked_for_at_once(
    pair: AsteriskPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not a minute later."""
    monkeypatch.setattr("edge.telephony.leftovers.SURE_AFTER_S", 0.1)
    monkeypatch.setattr("edge.telephony.ari_listener.CHECK_INTERVAL_S", 0.2)
    ended = list[str]()
    async with asyncio.timeout(15), AriClient(address_of(pair.node.settings)) as client, worker(client, ended) as calls:
        await client.create_bridge(f"{APP}.bridge.old")
        is_registered = client.application
        with monkeypatch.context() as broken:
            broken.setattr(client, "application", stall)
            await calls.wait_registered(is_registered=False)
        assert client.application == is_registered
        while await client.bridge_ids():
            await asyncio.sleep(0.02)
    assert ended == ["bridge"]


async def test_what_a_sibling_took_over_is_not_left_over(pair: AsteriskPair, calls: InboundCalls) -> None:
    """A human who was moved with the caller keeps the name that the former owner gave."""
    channel_id = f"{APP}.human.1700000000.1"
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(15))
        client = await stack.enter_async_context(AriClient(address_of(pair.node.settings)))
        connection_id = await client.create_media_channel(channel_id, APP)
        assert (await find_leftovers(client, APP, lambda _: False)).channel_ids == {channel_id}
        await stack.enter_async_context(client.media_socket(connection_id))
        await until_in(client, APP, channel_id)
        assert (await find_leftovers(client, APP, lambda _: False)).channel_ids == {channel_id}
        await stack.enter_async_context(InboundCalls(client, app=SIBLING))
        await client.move(channel_id, SIBLING)
        await until_in(client, SIBLING, channel_id)
        assert not (await find_leftovers(client, APP, lambda _: False)).channel_ids
        await client.hang_up(channel_id, 16)
        await assert_nothing_left(client)
    assert calls.is_registered


async def until_in(client: AriClient, app: str, channel_id: str) -> None:
    """Return once the channel is in the Stasis app."""
    while (found := await client.application(app)) is None or channel_id not in found.channel_ids:
        await asyncio.sleep(0.02)
