"""Calls through two real Asterisks: carrier (PJSIP) -> node (PJSIP, ARI, media websocket) -> us, and back."""

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.call.ports import (
    SAMPLE_RATE_HZ,
    AudioReceived,
    DigitPressed,
    HangupCause,
    LegClosed,
    MediaLeg,
    PlayoutReached,
    TransferOutcome,
)
from edge.media.asterisk_websocket import AsteriskMediaLeg
from edge.telephony.ari import AriClient
from edge.telephony.call_control import AriCallControl
from edge.telephony.errors import AriUnavailableError, CallerGoneError
from edge.telephony.inbound import InboundCall, InboundCalls
from tests.asterisk_pair import AsteriskPair
from tests.edge.telephony.carrier_caller import CALLED_NUMBER, CALLER_NUMBER, Caller, Carrier

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Between what comes back as comfort noise or codec error, and our tones.
LOUD = 1000
TONE_PEAK = 8000
# A race with Asterisk's own hanging up has more than one end.
ROUNDS = 8


def report(line: str) -> None:
    """Print a measurement; shown with -s."""
    sys.stdout.write(line + "\n")


def tone(seconds: float, hz: float = 1000) -> bytes:
    """A tone that survives the telephone band."""
    times = np.arange(int(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    samples: NDArray[np.int16] = (TONE_PEAK * np.sin(2 * np.pi * hz * times)).astype("<i2")
    return samples.tobytes()


def level(pcm: bytes) -> int:
    """Highest sample of some audio."""
    return int(np.abs(np.frombuffer(pcm, "<i2").astype(np.int32)).max(initial=0))


def strongest_hz(pcm: bytes) -> float:
    """Frequency with most energy."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * SAMPLE_RATE_HZ / len(samples))


async def hear(leg: MediaLeg, *, loud: bool) -> float:
    """Return when the leg hears a loud (or silent) frame, and when that was."""
    async with asyncio.timeout(5):
        while True:
            event = await leg.receive()
            if isinstance(event, AudioReceived) and (level(event.pcm) > LOUD) == loud:
                return time.monotonic()


async def hear_last(leg: MediaLeg) -> float:
    """Return when the last loud frame was heard, once none has come for 100 ms."""
    last = time.monotonic()
    while True:
        try:
            async with asyncio.timeout(max(0.0, last + 0.1 - time.monotonic())):
                event = await leg.receive()
        except TimeoutError:
            return last
        if isinstance(event, AudioReceived) and level(event.pcm) > LOUD:
            last = time.monotonic()
        elif time.monotonic() > last + 0.1:
            return last


async def listen(leg: MediaLeg, seconds: float) -> bytes:
    """What the leg hears for a while."""
    heard = bytearray()
    async with asyncio.timeout(seconds + 5):
        while len(heard) < seconds * SAMPLE_RATE_HZ * 2:
            event = await leg.receive()
            if isinstance(event, AudioReceived):
                heard += event.pcm
    return bytes(heard)


async def next_call(calls: InboundCalls) -> InboundCall:
    async with asyncio.timeout(5):
        async for call in calls.incoming():
            return call
    raise AssertionError


@asynccontextmanager
async def connected(
    carrier: Carrier, calls: InboundCalls
) -> AsyncIterator[tuple[Caller, AsteriskMediaLeg, AsteriskMediaLeg, AriCallControl]]:
    """A call that is up: the caller, the caller's leg on the carrier, our leg, our control."""
    async with (
        carrier.ring() as caller,
        calls.accept(await next_call(calls)) as (ours, control),
        carrier.talk(caller) as theirs,
    ):
        yield caller, theirs.leg, ours, control


async def wait_gone(caller: Caller) -> int:
    async with asyncio.timeout(5):
        await caller.watch.wait_until(lambda: caller.watch.is_gone)
    return caller.watch.cause


async def assert_nothing_left(client: AriClient) -> None:
    """Channels and bridges go away within moments of a call."""
    async with asyncio.timeout(3):
        # Each round is two requests, so this does not spin.
        while await client.channels() or await client.bridge_ids():
            continue


async def test_call_carries_numbers_and_audio_both_ways(
    carrier: Carrier, calls: InboundCalls, node_client: AriClient
) -> None:
    """Both numbers arrive, an echoed tone comes back, and hanging up ends everything."""
    async with carrier.ring() as caller:
        call = await next_call(calls)
        assert (call.caller_number, call.called_number) == (CALLER_NUMBER, CALLED_NUMBER)
        async with calls.accept(call) as (ours, control), carrier.talk(caller) as theirs:
            await theirs.leg.send(tone(0.5, 700))
            await hear(ours, loud=True)
            assert strongest_hz(await listen(ours, 0.3)) == pytest.approx(700, abs=10)
            await ours.send(tone(0.5, 1300))
            await hear(theirs.leg, loud=True)
            assert strongest_hz(await listen(theirs.leg, 0.3)) == pytest.approx(1300, abs=10)
            await control.hang_up(HangupCause.NORMAL)
            await control.hang_up(HangupCause.NORMAL)
            async with asyncio.timeout(2):
                await control.wait_until_ended()
        assert await wait_gone(caller) == 16
        assert isinstance(await ours.receive(), LegClosed | AudioReceived)
    await assert_nothing_left(node_client)


async def test_echo_round_trip_is_short(carrier: Carrier, calls: InboundCalls) -> None:
    """Out and back through two Asterisks and two media sockets takes two ticks of 20 ms and little more."""

    async def echo(leg: MediaLeg) -> None:
        while not isinstance(event := await leg.receive(), LegClosed):
            if isinstance(event, AudioReceived):
                await leg.send(event.pcm)

    async with connected(carrier, calls) as (_, theirs, ours, _control), asyncio.TaskGroup() as group:
        echoing = group.create_task(echo(ours))
        await listen(theirs, 0.5)
        round_trips_ms: list[float] = []
        for _ in range(15):
            await theirs.send(tone(0.04))
            sent_at = time.monotonic()
            round_trips_ms.append(1000 * (await hear(theirs, loud=True) - sent_at))
            await hear(theirs, loud=False)
            await listen(theirs, 0.1)
        report(f"websocket echo through two Asterisks: median {statistics.median(round_trips_ms):.1f} ms")
        assert statistics.median(round_trips_ms) < 80
        echoing.cancel()


async def test_first_audio_follows_the_answer_at_once(carrier: Carrier, calls: InboundCalls) -> None:
    """What is sent right after `accept` is heard from its first frame on."""
    async with carrier.ring() as caller:
        call = await next_call(calls)
        offered_at = time.monotonic()
        async with calls.accept(call) as (ours, _):
            accepted_s = time.monotonic() - offered_at
            async with carrier.talk(caller) as theirs:
                await ours.send(tone(1.0))
                heard_s = await hear(theirs.leg, loud=True) - offered_at
        report(f"offered -> answered {1000 * accepted_s:.1f} ms, -> first audio at the caller {1000 * heard_s:.1f} ms")
        assert heard_s < 0.5


async def test_digits_arrive(carrier: Carrier, calls: InboundCalls) -> None:
    """RFC 4733 digits become DigitPressed in order."""
    async with (
        carrier.ring(extension="digits", variables={"DIGITS": "12#"}),
        calls.accept(await next_call(calls)) as (ours, _),
        asyncio.timeout(5),
    ):
        digits = ""
        while len(digits) < 3:
            event = await ours.receive()
            if isinstance(event, DigitPressed):
                digits += event.digit
        assert digits == "12#"


async def test_mark_is_reached_when_the_audio_was_played(carrier: Carrier, calls: InboundCalls) -> None:
    """A mark behind 400 ms of audio is reached after 400 ms; odd rests are padded to a frame."""
    async with connected(carrier, calls) as (_, _theirs, ours, _control):
        sent_at = time.monotonic()
        await ours.send(tone(0.4) + b"\1\2" * 7)
        await ours.mark("greeting")
        async with asyncio.timeout(3):
            while not isinstance(event := await ours.receive(), PlayoutReached):
                pass
        assert event.mark == "greeting"
        assert time.monotonic() - sent_at == pytest.approx(0.42, abs=0.12)


async def test_pause_and_flush_take_effect_at_once(carrier: Carrier, calls: InboundCalls) -> None:
    """The caller hears silence within a few frames of `pause` and `flush`, and the rest after `resume`."""
    async with connected(carrier, calls) as (_, theirs, ours, _control):
        await ours.send(tone(1.9))
        await ours.mark("never")
        await hear(theirs, loud=True)
        paused_at = time.monotonic()
        await ours.pause()
        pause_s = await hear_last(theirs) - paused_at
        resumed_at = time.monotonic()
        await ours.resume()
        resume_s = await hear(theirs, loud=True) - resumed_at
        flushed_at = time.monotonic()
        await ours.flush()
        flush_s = await hear_last(theirs) - flushed_at
        assert level(await listen(theirs, 0.3)) < LOUD
        report(f"pause {1000 * pause_s:.0f} ms, resume {1000 * resume_s:.0f} ms, flush {1000 * flush_s:.0f} ms")
        assert max(pause_s, resume_s, flush_s) < 0.12
        assert ours.queued_s == 0
        await ours.send(tone(0.1))
        await ours.mark("after")
        async with asyncio.timeout(3):
            while not isinstance(event := await ours.receive(), PlayoutReached):
                pass
        assert event.mark == "after"


async def test_sending_is_held_back_at_two_seconds(carrier: Carrier, calls: InboundCalls) -> None:
    """Three seconds of audio take one second to be taken, none is lost, and a flush frees a waiting sender."""
    async with connected(carrier, calls) as (_, theirs, ours, _control):
        began = time.monotonic()
        await ours.send(tone(3.0))
        assert 0.8 < time.monotonic() - began < 1.6
        assert ours.queued_s <= 2.0
        await ours.flush()
        await hear(theirs, loud=False)
        async with asyncio.TaskGroup() as group, asyncio.timeout(2):
            sending = group.create_task(ours.send(tone(30.0)))
            await hear(theirs, loud=True)
            await ours.flush()
            await sending


async def test_caller_who_hangs_up_during_set_up_leaves_nothing(
    carrier: Carrier, calls: InboundCalls, node_client: AriClient
) -> None:
    """Whenever the caller goes, `accept` ends and no channel or bridge stays."""
    for delay_s in (0, 0.001, 0.002, 0.004, 0.006):
        async with carrier.ring() as caller:
            call = await next_call(calls)

            async def hang_up(caller: Caller = caller, delay_s: float = delay_s) -> None:
                await asyncio.sleep(delay_s)
                await carrier.client.hang_up_if_there(caller.channel_id, 16)

            async with asyncio.TaskGroup() as group:
                group.create_task(hang_up())
                try:
                    async with asyncio.timeout(5), calls.accept(call) as (_, control):
                        await control.wait_until_ended()
                except CallerGoneError:
                    pass
        await assert_nothing_left(node_client)


@pytest.mark.parametrize("step", ["create_bridge", "create_media_channel", "add_to_bridge", "answer"])
async def test_caller_who_is_being_hung_up_at_a_step_is_gone(
    carrier: Carrier, calls: InboundCalls, node_client: AriClient, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Asterisk still has the channel, hangs it up, and refuses us with other codes than for one that is gone."""
    take_step = getattr(node_client, step)
    for _ in range(ROUNDS):
        async with carrier.ring():
            call = await next_call(calls)

            async def hang_up_first(*arguments: str, call: InboundCall = call) -> object:
                # Returns when Asterisk has taken note, and before the channel has left Stasis.
                await node_client.hang_up(call.channel_id, 16)
                return await take_step(*arguments)

            monkeypatch.setattr(node_client, step, hang_up_first)
            try:
                async with asyncio.timeout(5), calls.accept(call) as (_, control):
                    await control.wait_until_ended()
            except CallerGoneError:
                pass
            monkeypatch.setattr(node_client, step, take_step)
    await assert_nothing_left(node_client)


async def test_a_call_that_could_not_be_set_up_is_sent_to_another_node(
    carrier: Carrier, calls: InboundCalls, node_client: AriClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cause is that of a node without a free slot, which a front door goes on after."""

    async def refuse(bridge_id: str) -> None:
        raise AriUnavailableError(f"no answer: {bridge_id}")

    monkeypatch.setattr(node_client, "create_bridge", refuse)
    async with carrier.ring() as caller:
        with pytest.raises(AriUnavailableError):
            async with calls.accept(await next_call(calls)):
                pass
        assert await wait_gone(caller) == 34


async def test_refused_call_gets_the_cause(carrier: Carrier, calls: InboundCalls, node_client: AriClient) -> None:
    """`reject` ends the call for good; `decline` asks the next worker and, with none, gives 503."""
    async with carrier.ring() as caller:
        await calls.reject(await next_call(calls), HangupCause.USER_BUSY)
        assert await wait_gone(caller) == 17
    async with carrier.ring() as caller:
        await calls.decline(await next_call(calls))
        assert await wait_gone(caller) in {34, 38, 41, 42}
    await assert_nothing_left(node_client)


async def test_call_goes_to_the_next_worker(carrier: Carrier, calls: InboundCalls, node_client: AriClient) -> None:
    """Of two workers each gets calls, and one alone gets them all."""
    async with InboundCalls(node_client, app="calls-1") as others:
        taken = []
        for _ in range(4):
            async with carrier.ring(), asyncio.TaskGroup() as group:
                waiting = {group.create_task(next_call(each)): each for each in (calls, others)}
                done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                taken.append(waiting[done.pop()])
                for task in pending:
                    task.cancel()
        assert taken.count(calls) == 2
    for _ in range(3):
        async with carrier.ring():
            await next_call(calls)


async def test_call_that_came_while_nobody_listened_is_taken(
    carrier: Carrier, node_client: AriClient, pair: AsteriskPair
) -> None:
    """A caller whose StasisStart was lost with the connection is found when the worker registers again."""
    async with node_client.events("calls-0") as lost, carrier.ring() as caller:
        async with asyncio.timeout(5):
            await lost.receive()
        async with InboundCalls(node_client, app="calls-0") as calls, calls.accept(await next_call(calls)):
            async with asyncio.timeout(5):
                await caller.watch.wait_in_stasis()
    await assert_nothing_left(node_client)


async def test_many_quick_calls_leak_nothing(carrier: Carrier, calls: InboundCalls, node_client: AriClient) -> None:
    """Twenty calls, four at a time, leave neither channel nor bridge nor watch."""

    async def serve(call: InboundCall) -> None:
        async with calls.accept(call) as (ours, control):
            await ours.send(tone(0.1))
            await control.wait_until_ended()

    async def ring() -> None:
        async with carrier.ring() as caller, asyncio.timeout(10):
            await caller.watch.wait_in_stasis()

    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            async with asyncio.TaskGroup() as callers:
                for _ in range(4):
                    callers.create_task(ring())
                    group.create_task(serve(await next_call(calls)))
    await assert_nothing_left(node_client)


async def test_transfer_whispers_then_connects(
    carrier: Carrier, calls: InboundCalls, pair: AsteriskPair, node_client: AriClient
) -> None:
    """The human alone hears the whisper, the caller hears hold audio, then they hear each other without us."""
    async with connected(carrier, calls) as (_, theirs, ours, control), asyncio.TaskGroup() as group:
        await ours.send(tone(1.5, 400))
        transfer = group.create_task(
            control.transfer(pair.human_uri("+15550777"), whisper=[tone(0.4, 1800)], timeout_s=5)
        )
        async with asyncio.timeout(5):
            human = await carrier.humans.get()
        async with carrier.pick_up(human) as agent:
            await hear(agent.leg, loud=True)
            assert strongest_hz(await listen(agent.leg, 0.2)) == pytest.approx(1800, abs=20)
            await hear(theirs, loud=True)
            assert strongest_hz(await listen(theirs, 0.2)) == pytest.approx(400, abs=20)
            async with asyncio.timeout(5):
                assert await transfer is TransferOutcome.CONNECTED
                while not isinstance(await ours.receive(), LegClosed):
                    pass
            await hear_last(theirs)
            await agent.leg.send(tone(0.6, 900))
            await hear(theirs, loud=True)
            assert strongest_hz(await listen(theirs, 0.3)) == pytest.approx(900, abs=20)
            assert len(await node_client.channels()) == 2
            # The human hangs up: the caller's leg ends with it.
            await carrier.client.hang_up_if_there(human.channel_id, 16)
            async with asyncio.timeout(5):
                await control.wait_until_ended()
    await assert_nothing_left(node_client)


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        ("5550117", TransferOutcome.BUSY),
        ("5550119", TransferOutcome.NO_ANSWER),
        ("5550101", TransferOutcome.UNREACHABLE),
    ],
)
async def test_failed_transfer_leaves_the_caller_with_us(
    carrier: Carrier, calls: InboundCalls, pair: AsteriskPair, number: str, outcome: TransferOutcome
) -> None:
    """Busy, no answer and unallocated are told apart, and the caller still hears us."""
    async with connected(carrier, calls) as (_, theirs, ours, control):
        assert await control.transfer(pair.human_uri(number), whisper=[], timeout_s=0.5) is outcome
        await ours.send(tone(0.3))
        await hear(theirs, loud=True)


async def test_transfer_to_nonsense_is_unreachable(carrier: Carrier, calls: InboundCalls) -> None:
    """What is no SIP URI is never given to Asterisk."""
    async with connected(carrier, calls) as (_, _theirs, _ours, control):
        for nonsense in ("", "tel:1", "sip:a b@c", "sip:1@h/x", "sip:1@h&PJSIP/trunk"):
            assert await control.transfer(nonsense, whisper=[], timeout_s=1) is TransferOutcome.UNREACHABLE


@pytest.mark.parametrize("is_answered", [False, True])
async def test_caller_who_leaves_during_a_transfer_ends_the_humans_leg(
    carrier: Carrier, calls: InboundCalls, pair: AsteriskPair, node_client: AriClient, *, is_answered: bool
) -> None:
    """While it rings and while the whisper plays: CALLER_GONE, and the human is not left alone."""
    async with connected(carrier, calls) as (caller, _theirs, _ours, control), asyncio.TaskGroup() as group:
        transfer = group.create_task(control.transfer(pair.human_uri("+15550777"), whisper=[tone(3.0)], timeout_s=5))
        async with asyncio.timeout(5):
            human = await carrier.humans.get()
        if is_answered:
            async with carrier.pick_up(human) as agent:
                await hear(agent.leg, loud=True)
                await carrier.client.hang_up(caller.channel_id, 16)
                assert await transfer is TransferOutcome.CALLER_GONE
        else:
            await carrier.client.hang_up(caller.channel_id, 16)
            assert await transfer is TransferOutcome.CALLER_GONE
        async with asyncio.timeout(3):
            await human.wait_until(lambda: human.is_gone)
    await assert_nothing_left(node_client)
