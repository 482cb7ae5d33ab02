"""Two real Asterisks: the caller reacts to a scripted agent, and what the recordings say is true."""

import asyncio
import socket
from pathlib import Path

import pytest

from bench import g711
from bench.caller import CallPlan, Desk, Ear, Ending, SpokenLine, place_call
from bench.carrier import Carrier, IncomingCall, PartyMedia, carrier_settings
from bench.exchange import hear
from bench.recording import read_recording, speech_spans
from bench.scenario import Line, Say, Scenario
from provisioning.asterisk.settings import ECHO_NUMBER
from tests.asterisk_pair import free_ports, require_asterisk
from tests.bench.test_recording import voice

REPLY_AFTER_S = 0.3


def speech(length_s: float, seed: int = 1) -> bytes:
    return g711.encode(voice(length_s, -20, seed))


class ScriptedAgent:
    """Greets at once, and answers 300 ms after it has heard the caller stop."""

    def __init__(self, reply_s: float) -> None:
        self._reply = speech(reply_s, 2)

    async def answer(self, carrier: Carrier, call: IncomingCall) -> None:
        media = await carrier.open_media(call.channel_id)
        try:
            await carrier.answer(call.channel_id)
            await carrier.connect(f"{call.channel_id}.bridge", call.channel_id, media.channel_id)
            await media.play(speech(1.0, 3))
            async with asyncio.TaskGroup() as group:
                ear = Ear()
                tasks = [
                    group.create_task(media.keep_sending(ear.tick), name="agent:send"),
                    group.create_task(self._talk(ear, media), name="agent:talk"),
                    group.create_task(self._listen(ear, media), name="agent:listen"),
                ]
                await carrier.wait_until_ended(call.channel_id)
                for task in tasks:
                    task.cancel()
        finally:
            await media.close()
            await carrier.clear(f"{call.channel_id}.bridge", call.channel_id, media.channel_id)

    async def _listen(self, ear: Ear, media: PartyMedia) -> None:
        while (codes := await media.receive()) is not None:
            was_speaking = ear.is_speaking
            ear.hear(codes)
            if ear.is_speaking and not was_speaking:
                await media.stop_playing()

    async def _talk(self, ear: Ear, media: PartyMedia) -> None:
        while True:
            await ear.started.wait()
            await ear.stopped.wait()
            await asyncio.sleep(REPLY_AFTER_S - 0.24)
            await media.play(self._reply)


def plan(call_id: str, destination: str, *lines: SpokenLine) -> CallPlan:
    scenario = Scenario(tenant="t", id="s", tags=(), lines=tuple(line.line for line in lines))
    return CallPlan(
        call_id=call_id,
        seed=1,
        destination=destination,
        caller_number="+15550123",
        scenario=scenario,
        lines=lines,
    )


def say(length_s: float, barge_in_after_s: float | None = None) -> SpokenLine:
    return SpokenLine(line=Line(act=Say(text="x", barge_in_after_s=barge_in_after_s)), codes=speech(length_s))


async def test_a_call_is_what_its_recording_says(tmp_path: Path) -> None:
    """Three turns with an interruption against an agent of known timing: all figures are where they must be."""
    root = require_asterisk()
    ports = free_ports(socket.SOCK_DGRAM, 2)
    agent = ScriptedAgent(reply_s=4.0)
    node = carrier_settings(tmp_path / "node", sip_port=ports[0], node_sip=("127.0.0.1", ports[1]))
    ours = carrier_settings(tmp_path / "carrier", sip_port=ports[1], node_sip=("127.0.0.1", ports[0]))
    async with Carrier(root, node, agent.answer), Carrier(root, ours, Desk(b"").answer) as carrier:
        destination = f"sip:+15550100@127.0.0.1:{ports[0]}"
        trace = await place_call(carrier, plan("one", destination, say(1.2), say(0.8, barge_in_after_s=1.0)))
        assert await carrier.count("channels") == 0
        assert await carrier.count("bridges") == 0
    assert trace.problems == ()
    assert trace.ending is Ending.CALLER
    assert trace.is_script_done
    recording = read_recording(trace.spoken_file, trace.heard_file)
    # The clock of the recording never stands still, not even while both are silent.
    assert recording.length_s == pytest.approx(trace.length_s, abs=0.3)
    exchange = hear(recording, trace.utterances)
    first, barge_in = exchange.turns
    assert exchange.first_audio_s is not None
    assert 0.0 <= exchange.first_audio_s < 0.3
    # The agent's own clock is an event loop on a busy machine: the exact proof is the echo below.
    assert first.response_s == pytest.approx(REPLY_AFTER_S + 0.05, abs=0.25)
    assert barge_in.barge_in_s is not None
    assert 0.0 < barge_in.barge_in_s < 0.4
    assert first.spoken is not None
    assert first.spoken.length_s == pytest.approx(1.2, abs=0.02)


async def test_both_sides_of_a_recording_keep_step(tmp_path: Path) -> None:
    """Against an echo, what comes back stands behind what was said by the same few milliseconds all along."""
    root = require_asterisk()
    ports = free_ports(socket.SOCK_DGRAM, 2)
    desk = Desk(b"")
    node = carrier_settings(tmp_path / "node", sip_port=ports[0], node_sip=("127.0.0.1", ports[1]))
    ours = carrier_settings(tmp_path / "carrier", sip_port=ports[1], node_sip=("127.0.0.1", ports[0]))
    async with Carrier(root, node, desk.answer), Carrier(root, ours, desk.answer) as carrier:
        media = await carrier.open_media("echo-1")
        await carrier.originate("echo-1", f"sip:{ECHO_NUMBER}@127.0.0.1:{ports[0]}", "+15550123", extension="recorded")
        assert await carrier.wait_until_answered("echo-1") is None
        await carrier.connect("echo-1.bridge", "echo-1", media.channel_id)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(media.keep_sending(lambda: None), name="echo:send")
            for seed in range(4):
                await asyncio.sleep(0.8)
                await media.play(speech(0.5, seed))
            await asyncio.sleep(1.0)
            sending.cancel()
        await media.close()
        await carrier.clear("echo-1.bridge", "echo-1", media.channel_id)
        spoken_file, heard_file = carrier.recording("echo-1")
    recording = read_recording(spoken_file, heard_file)
    said = speech_spans(recording.caller, recording.rate_hz, merge_gap_s=0.2)
    heard = speech_spans(recording.agent, recording.rate_hz, merge_gap_s=0.2)
    assert len(said) == len(heard) == 4
    delays = [back.start_s - out.start_s for out, back in zip(said, heard, strict=True)]
    assert all(0 <= delay <= 0.1 for delay in delays)
    assert max(delays) - min(delays) <= 0.021
    for out, back in zip(said, heard, strict=True):
        assert out.length_s == pytest.approx(0.5, abs=0.01)
        assert back.length_s == pytest.approx(0.5, abs=0.01)
