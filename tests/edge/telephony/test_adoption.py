"""Callers whose worker died are taken over in Asterisk, and the one who had them cannot end them any more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from edge.call.ports import HangupCause, TransferOutcome
from edge.telephony.adoption import StrandedCall, belongs_to, call_ids_of
from edge.telephony.ari import AriClient
from edge.telephony.errors import AriRequestError, AriUnavailableError, CallerGoneError
from edge.telephony.inbound import InboundCall, InboundCalls
from tests.asterisk_pair import AsteriskPair
from tests.edge.telephony.carrier_caller import Caller, Carrier
from tests.edge.telephony.conftest import APP, address_of
from tests.edge.telephony.test_calls import LOUD, assert_nothing_left, connected, hear, level, listen, next_call, tone

pytestmark = pytest.mark.asyncio(loop_scope="module")

OTHER = "calls-1"


@asynccontextmanager
async def other_worker(pair: AsteriskPair) -> AsyncIterator[tuple[AriClient, InboundCalls]]:
    async with AriClient(address_of(pair.node.settings)) as client, InboundCalls(client, app=OTHER) as calls:
        yield client, calls


async def stranded(calls: InboundCalls, call_id: str) -> StrandedCall:
    return (await calls.find_stranded([call_id]))[call_id]


async def test_parts_of_a_call_are_known_by_their_ids() -> None:
    assert belongs_to("calls-1.bridge.1700000000.12", "1700000000.12")
    assert belongs_to("calls-1.media.1700000000.12.1", "1700000000.12")
    assert not belongs_to("calls-1.media.1700000000.121", "1700000000.12")
    assert not belongs_to("1700000000.12", "1700000000.12")
    assert call_ids_of("1700000000.12") == ("1700000000.12",)


async def test_a_moved_caller_hears_the_new_worker_and_the_old_one_lets_go(
    pair: AsteriskPair, calls: InboundCalls, carrier: Carrier
) -> None:
    """The old worker lives (it only was taken for dead): it is told, and its way out ends nothing of the call."""
    async with carrier.ring() as caller:
        call = await next_call(calls)
        async with (
            calls.accept(call) as (_, control),
            carrier.talk(caller) as theirs,
            other_worker(pair) as (client, others),
        ):
            adopting = others.adopt(await stranded(others, call.call_id))
            async with asyncio.timeout(10), adopting as (leg, _):
                await control.wait_until_ended()
                await control.hang_up(HangupCause.NORMAL)
                await leg.send(tone(1))
                await hear(theirs.leg, loud=True)
                assert not belongs_to_old(await client.bridge_ids())
        async with asyncio.timeout(5):
            await caller.watch.wait_until(lambda: caller.watch.is_gone)


def belongs_to_old(bridge_ids: list[str]) -> list[str]:
    return [each for each in bridge_ids if each.startswith(f"{APP}.")]


async def test_the_old_worker_leaving_first_does_not_end_the_call(
    pair: AsteriskPair, calls: InboundCalls, carrier: Carrier
) -> None:
    async with carrier.ring() as caller, asyncio.timeout(10):
        call = await next_call(calls)
        async with other_worker(pair) as (client, others):
            leaving = asyncio.Event()

            async def old_owner() -> None:
                async with calls.accept(call):
                    await leaving.wait()

            owner = asyncio.create_task(old_owner())
            found = await stranded(others, call.call_id)
            async with carrier.talk(caller) as theirs, others.adopt(found) as (leg, _):
                leaving.set()
                await owner
                assert await client.has_channel(call.channel_id)
                await leg.send(tone(1))
                await hear(theirs.leg, loud=True)


async def test_a_caller_who_has_gone_is_not_stranded(pair: AsteriskPair, calls: InboundCalls, carrier: Carrier) -> None:
    async with AsyncExitStack() as stack:
        async with carrier.ring(), asyncio.timeout(10):
            call = await next_call(calls)
            _, others = await stack.enter_async_context(other_worker(pair))
            found = await stranded(others, call.call_id)
        async with asyncio.timeout(10):
            while await others.find_stranded([call.call_id]):
                await asyncio.sleep(0.02)
            with pytest.raises(CallerGoneError):
                async with others.adopt(found):
                    pass


async def test_caller_and_human_stay_connected(pair: AsteriskPair, calls: InboundCalls, carrier: Carrier) -> None:
    """The human is found with the caller, both are moved, and each hears the other."""
    async with connected(carrier, calls) as (caller, theirs, _, control), other_worker(pair) as (client, others):
        transfer = asyncio.create_task(control.transfer(pair.human_uri("sales"), whisper=(), timeout_s=5))
        async with asyncio.timeout(15):
            human = await carrier.humans.get()
            async with carrier.pick_up(human) as humans_media:
                assert await transfer is TransferOutcome.CONNECTED
                (call_id,) = [each.channel_id for each in await client.channels() if each.channel_id.count(".") == 1]
                found = await stranded(others, call_id)
                assert found.human_id is not None
                async with others.adopt(found) as (_, new_control):
                    await theirs.send(tone(0.5))
                    await hear(humans_media.leg, loud=True)
                    await humans_media.leg.send(tone(0.5))
                    heard = await listen(theirs, 1.0)
                    assert level(heard) > LOUD
                    await carrier.client.hang_up_if_there(human.channel_id, 16)
                    await new_control.wait_until_ended()
        async with asyncio.timeout(5):
            await caller.watch.wait_until(lambda: caller.watch.is_gone)


async def test_a_caller_who_rings_is_offered_to_the_sibling(
    pair: AsteriskPair, calls: InboundCalls, carrier: Carrier
) -> None:
    """Nobody had answered: it becomes a call of the sibling like any other."""
    async with carrier.ring() as caller, asyncio.timeout(10), AsyncExitStack() as stack:
        call = await next_call(calls)
        client, others = await stack.enter_async_context(other_worker(pair))
        await others.offer_unknown(APP, known=())
        moved = await next_call(others)
        assert (moved.call_id, moved.called_number) == (call.call_id, call.called_number)
        application = await client.application(APP)
        assert application is None or call.channel_id not in application.channel_ids
        async with others.accept(moved), carrier.talk(caller):
            assert not caller.watch.is_gone


@asynccontextmanager
async def answered_and_left(client: AriClient, carrier: Carrier) -> AsyncIterator[tuple[Caller, InboundCall]]:
    """A caller who was answered by a worker that is no more."""
    async with AsyncExitStack() as stack:
        async with InboundCalls(client, app=OTHER) as former:
            caller = await stack.enter_async_context(carrier.ring())
            call = await next_call(former)
            await client.create_bridge(f"{OTHER}.bridge.{call.call_id}")
            await client.add_to_bridge(f"{OTHER}.bridge.{call.call_id}", call.channel_id)
            await client.answer(call.channel_id)
        yield caller, call


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A caller whose worker died, and a worker that found them."""

    client: AriClient
    caller: Caller
    call: InboundCall
    others: InboundCalls
    found: StrandedCall


@asynccontextmanager
async def left_behind(pair: AsteriskPair, carrier: Carrier) -> AsyncIterator[Left]:
    async with (
        asyncio.timeout(15),
        AriClient(address_of(pair.node.settings)) as client,
        answered_and_left(client, carrier) as (caller, call),
        InboundCalls(client, app=APP) as others,
    ):
        found = await stranded(others, call.call_id)
        yield Left(client=client, caller=caller, call=call, others=others, found=found)


async def test_a_worker_goes_on_with_the_callers_of_its_former_life(pair: AsteriskPair, carrier: Carrier) -> None:
    """They are in its app already, under names that its new bridges and media must not take again."""
    async with (
        asyncio.timeout(15),
        AriClient(address_of(pair.node.settings)) as client,
        answered_and_left(client, carrier) as (caller, call),
        InboundCalls(client, app=OTHER, reconciles=False) as next_life,
    ):
        adopting = next_life.adopt(await stranded(next_life, call.call_id))
        async with carrier.talk(caller) as theirs, adopting as (leg, _):
            await next_life.reconcile()
            await leg.send(tone(1))
            await hear(theirs.leg, loud=True)
            assert len(await client.bridge_ids()) == 1
        await caller.watch.wait_until(lambda: caller.watch.is_gone)


async def test_a_caller_who_cannot_be_adopted_is_let_go(
    pair: AsteriskPair, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else would end the call: it has this owner."""
    async with left_behind(pair, carrier) as left:
        monkeypatch.setattr(left.client, "create_bridge", refuse)
        with pytest.raises(AriRequestError):
            async with left.others.adopt(left.found):
                pass
        await left.caller.watch.wait_until(lambda: left.caller.watch.is_gone)
        assert not await left.client.bridge_ids()


@pytest.mark.parametrize("step", ["move", "add_to_bridge", "answer"])
async def test_a_caller_who_is_being_hung_up_while_adopted_is_gone(
    pair: AsteriskPair, carrier: Carrier, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Asterisk says yes to a move that never comes about, and 500 to an answer."""
    async with left_behind(pair, carrier) as left:
        take_step = getattr(left.client, step)

        async def hang_up_first(*arguments: object) -> None:
            await left.client.hang_up(left.call.channel_id, 16)
            await take_step(*arguments)

        monkeypatch.setattr(left.client, step, hang_up_first)
        try:
            async with left.others.adopt(left.found) as (_, control):
                await control.wait_until_ended()
        except CallerGoneError:
            pass
        await left.caller.watch.wait_until(lambda: left.caller.watch.is_gone)
        await assert_nothing_left(left.client)


async def test_a_slow_asterisk_does_not_cost_the_caller(
    pair: AsteriskPair, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not answer now may do so in a moment; the caller stays meanwhile."""
    async with left_behind(pair, carrier) as left:
        add_to_bridge = left.client.add_to_bridge

        async def stall_once(*arguments: str) -> None:
            monkeypatch.setattr(left.client, "add_to_bridge", add_to_bridge)
            raise AriUnavailableError(f"no answer: {arguments}")

        monkeypatch.setattr(left.client, "add_to_bridge", stall_once)
        async with left.others.adopt(left.found) as (leg, _), carrier.talk(left.caller) as theirs:
            await leg.send(tone(1))
            await hear(theirs.leg, loud=True)
            assert len(await left.client.bridge_ids()) == 1
        await assert_nothing_left(left.client)


async def test_who_was_cut_off_from_asterisk_meanwhile_lets_go_too(
    pair: AsteriskPair, carrier: Carrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old worker was not told: it asks when it is back, and hangs up nobody."""
    monkeypatch.setattr("edge.telephony.ari_listener.CHECK_INTERVAL_S", 0.2)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(asyncio.timeout(15))
        old_client = await stack.enter_async_context(AriClient(address_of(pair.node.settings)))
        old = await stack.enter_async_context(InboundCalls(old_client, app=APP))
        caller = await stack.enter_async_context(carrier.ring())
        call = await next_call(old)
        _, others = await stack.enter_async_context(other_worker(pair))
        async with old.accept(call) as (_, control):
            with monkeypatch.context() as cut_off:
                cut_off.setattr(old_client, "application", unavailable)
                cut_off.setattr(old_client, "events", no_events)
                await old.wait_registered(is_registered=False)
                adopting = others.adopt(await stranded(others, call.call_id))
                await stack.enter_async_context(adopting)
            await old.wait_registered()
            await control.wait_until_ended()
            assert not control.was_lost
        assert not caller.watch.is_gone


async def refuse(bridge_id: str) -> None:
    raise AriRequestError(bridge_id, 500, "no room")


async def unavailable(app: str) -> None:
    raise AriUnavailableError(f"no answer: {app}")


@asynccontextmanager
async def no_events(app: str) -> AsyncIterator[None]:
    raise AriUnavailableError(f"no answer: {app}")
    yield
