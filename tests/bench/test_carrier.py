"""Two real Asterisks: the caller reacts to a scripted agent, and what the recordings say is true."""

import asyncio
import socket
from pathlib import Path

import pytest
import soxr

from bench import g711
from bench.caller import CallPlan, Desk, Ear, Ending, SpokenLine, place_call
from bench.carrier import Carrier, IncomingCall, PartyMedia, carrier_settings
from bench.exchange import hear
from bench.recording import read_recording
from bench.scenario import Line, Say, Scenario
from bench.voices import cough
from tests.asterisk_pair import free_ports, require_asterisk
from tests.bench.test_recording import voice

REPLY_AFTER_S = 0.3


def speech(length_s: float, seed: int = 1) -> bytes:
    return g711.encode(voice(length_s, -20, seed))


class ScriptedAgent:
    """Greets at once, and answers 300 ms after it has heard the caller stop."""

    def __init__(self, reply_s: float = 1.5) -> None:
        self.digits: list[str] = []
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


def say(length_s: float, **keys: object) -> SpokenLine:
    return SpokenLine(
        line=Line(act=Say(text="x", **keys)),
        codes=speech(length_s),
        noise_codes=g711.encode(soxr.resample(cough(1), 16000, 8000)),
    )  # type: ignore[arg-type]


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
    # 300 ms of the agent's own, 20 ms of its frames, and the way there and back.
    assert first.response_s == pytest.approx(REPLY_AFTER_S + 0.05, abs=0.07)
    assert barge_in.barge_in_s == pytest.approx(0.1, abs=0.09)
    assert first.spoken is not None
    assert first.spoken.length_s == pytest.approx(1.2, abs=0.02)
