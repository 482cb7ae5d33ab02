"""A call that cannot be set up ends alone, whatever broke it; and calls of a node that stops end with a word."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from edge.call.agents import AgentLoader, prepare_audio
from edge.call.farewell import FAREWELL
from edge.call.ports import HangupCause
from edge.call.reception import Reception
from edge.call.roster import Roster, ServedRoster
from edge.speech.prepared import PreparedAudio
from edge.sync.cordon import Cordon
from edge.telephony.ari import AriClient
from edge.telephony.errors import AriUnavailableError
from edge.telephony.inbound import InboundCalls
from tests.edge.call.test_reload import SHOP, SHOP_NUMBER, TENANTS, HashedVectors
from tests.edge.telephony.carrier_caller import Caller, Carrier
from tests.edge.telephony.test_calls import assert_nothing_left, next_call
from tests.edge.telephony.test_cordon import reception_of
from tests.edge.telephony.test_refusal import Tone

pytestmark = pytest.mark.asyncio(loop_scope="module")
WITHIN_S = 30.0


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[Reception]:
    """A worker that answers for the shop; nobody understands its callers, everything it says is a tone."""
    models, audio = HashedVectors(), PreparedAudio(folder / "clips", Tone(), model="tone")
    async with aiohttp.ClientSession() as webhooks:
        loader = AgentLoader(embedder=models, generator=models, webhooks=webhooks, vectors=folder / "vectors")
        agents = await loader.load(TENANTS / SHOP, version="1")
        await prepare_audio(agents, audio)
        yield replace(reception_of(folder, Cordon()), roster=ServedRoster(Roster(agents)), audio=audio)


@asynccontextmanager
async def bystander() -> AsyncIterator[asyncio.TaskGroup]:
    """A worker's group with another call in it, which must not be cancelled."""
    async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as tasks:
        other = tasks.create_task(asyncio.sleep(WITHIN_S))
        yield tasks
        assert not other.done()
        other.cancel()


async def taken(carrier: Carrier, calls: InboundCalls, reception: Reception) -> Caller:
    """One caller, whom the worker takes and loses."""
    async with bystander() as tasks, carrier.ring(SHOP_NUMBER) as caller:
        await tasks.create_task(reception.take(calls, await next_call(calls)))
        await caller.watch.wait_until(lambda: caller.watch.is_gone)
    return caller


def refused(reception: Reception, reason: str) -> float:
    count: float = reception.metrics.calls_refused.labels(reason=reason)._value.get()
    return count


async def test_audio_that_is_not_as_agreed_ends_its_call_only(
    tmp_path: Path, carrier: Carrier, calls: InboundCalls, node_client: AriClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.media.asterisk_websocket.FRAME_BYTES", 2)
    async with shop(tmp_path) as reception:
        caller = await taken(carrier, calls, reception)
        assert not caller.watch.is_in_stasis  # the carrier would have it there once answered
        assert caller.watch.cause == int(HangupCause.NO_CIRCUIT)  # 503: the front door asks another node
        assert refused(reception, "setup_failed") == 1
        assert reception.slots.in_use() == 0
    await assert_nothing_left(node_client)


async def test_a_bug_in_one_call_ends_its_call_only(
    tmp_path: Path, carrier: Carrier, calls: InboundCalls, node_client: AriClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def mistaken(channel_id: str) -> None:
        raise RuntimeError(channel_id)

    monkeypatch.setattr(node_client, "answer", mistaken)
    async with shop(tmp_path) as reception:
        await taken(carrier, calls, reception)
        assert refused(reception, "broken") == 1
        assert reception.slots.in_use() == 0
    await assert_nothing_left(node_client)


async def test_a_refusal_that_does_not_arrive_ends_nobody_else(
    tmp_path: Path, carrier: Carrier, calls: InboundCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(*_: object) -> None:
        raise AriUnavailableError("no answer")

    monkeypatch.setattr(calls, "reject", unavailable)
    monkeypatch.setattr(calls, "decline", unavailable)
    reception = reception_of(tmp_path, Cordon())
    async with bystander() as tasks:
        for _ in ("unknown number", "closing"):
            async with carrier.ring(SHOP_NUMBER):
                await tasks.create_task(reception.take(calls, await next_call(calls)))
            reception.closing.set()
    assert refused(reception, "unknown_number") == 1


async def test_a_call_is_left_to_a_sibling_or_ended_with_a_word(
    tmp_path: Path, carrier: Carrier, calls: InboundCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the deadline of a stop."""
    async with shop(tmp_path) as reception, bystander() as tasks, carrier.ring(SHOP_NUMBER) as caller:
        told = asyncio.Event()
        carrying = tasks.create_task(reception.take(calls, await next_call(calls)))
        async with carrier.talk(caller):
            while not reception.running:
                await asyncio.sleep(0.02)
            await reception.drain(0.1)
            assert await reception.end_calls(spares_sip=True) == 0
            assert reception.running
            (session,) = reception.running.values()
            say, farewell = session._parts.leg.send, session._parts.farewell

            async def listen(pcm: bytes) -> None:
                if farewell.startswith(pcm):
                    told.set()
                await say(pcm)

            monkeypatch.setattr(session._parts.leg, "send", listen)
            assert farewell == reception.audio.clip(FAREWELL, voice="en_US-joe-medium")
            assert await reception.end_calls(spares_sip=False) == 1
            assert told.is_set()
            assert not reception.running
            await carrying
        await caller.watch.wait_until(lambda: caller.watch.is_gone)
    assert reception.slots.in_use() == 0


async def test_a_stop_waits_for_a_call_that_is_being_set_up(
    tmp_path: Path, carrier: Carrier, calls: InboundCalls, node_client: AriClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was promised a slot the moment before."""
    answer, answering, go_on = node_client.answer, asyncio.Event(), asyncio.Event()

    async def slowly(channel_id: str) -> None:
        answering.set()
        await go_on.wait()
        await answer(channel_id)

    monkeypatch.setattr(node_client, "answer", slowly)
    async with shop(tmp_path) as reception, bystander() as tasks:
        async with carrier.ring(SHOP_NUMBER):
            carrying = tasks.create_task(reception.take(calls, await next_call(calls)))
            await answering.wait()
            draining = tasks.create_task(reception.drain(WITHIN_S))
            await asyncio.sleep(0.1)
            assert not draining.done()
            go_on.set()
            while not reception.running:
                await asyncio.sleep(0.02)
        await draining
        await carrying
