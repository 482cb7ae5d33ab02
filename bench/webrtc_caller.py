"""A simulated caller on the WebRTC path: what a browser does on the node's page, done by aiortc.

Owns the offer, the audio both ways and the recording of both sides, which is kept at the caller's 20 ms clock: what
arrives is put where it arrives, so its times are exact to a frame and include the jitter buffer of the receiver.
"""

import asyncio
import contextlib
import fractions
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import aiohttp
import numpy as np
import soxr
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCSessionDescription
from av import AudioFrame

from bench import g711
from bench.caller import CallLog, CallPlan, Ear, follow
from bench.errors import CarrierError
from bench.exchange import Exchange, Utterance, hear
from bench.recording import Recording, Samples

RTC_HZ = 48_000
TRUNK_HZ = 8_000
FRAME_S = 0.02
FRAME_SAMPLES = int(TRUNK_HZ * FRAME_S)
CONNECT_WITHIN_S = 15.0
LONGEST_CALL_S = 300.0
HTTP_CREATED = 201


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRtcCallHeard:
    """A call over WebRTC, measured as a SIP call is."""

    utterances: tuple[Utterance, ...]
    recording: Recording
    exchange: Exchange
    problems: tuple[str, ...]


class _Microphone(MediaStreamTrack):
    """Sends queued speech, silence otherwise, 20 ms at a time."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[Samples] = []
        self.queued = np.zeros(0, np.int16)
        self.began_s: float | None = None

    async def recv(self) -> AudioFrame:
        clock = asyncio.get_running_loop().time
        if self.began_s is None:
            self.began_s = clock()
        await asyncio.sleep(max(0.0, self.began_s + len(self.sent) * FRAME_S - clock()))
        piece, self.queued = self.queued[:FRAME_SAMPLES], self.queued[FRAME_SAMPLES:]
        samples = np.pad(piece, (0, FRAME_SAMPLES - len(piece)))
        # Repeated, not filtered: Opus and the ear of the node lose what lies above 4 kHz anyway.
        frame = AudioFrame.from_ndarray(samples.repeat(RTC_HZ // TRUNK_HZ).reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RTC_HZ
        frame.pts = len(self.sent) * int(RTC_HZ * FRAME_S)
        frame.time_base = fractions.Fraction(1, RTC_HZ)
        self.sent.append(samples)
        return frame


class _WebRtcParty:
    """The caller's end of a WebRTC call."""

    def __init__(self, connection: RTCPeerConnection) -> None:
        self.microphone = _Microphone()
        self.digits = connection.createDataChannel("digits")
        self.ended = asyncio.Event()
        connection.addTrack(self.microphone)

    async def play(self, codes: bytes) -> float:
        """Queue speech behind what is queued."""
        waiting_s = len(self.microphone.queued) / TRUNK_HZ
        self.microphone.queued = np.concatenate([self.microphone.queued, g711.decode(codes)])
        return waiting_s

    async def press(self, digits: str, *, each_ms: int, between_ms: int) -> None:
        """Send keys over the page's data channel."""
        for digit in digits:
            self.digits.send(digit)
            await asyncio.sleep((each_ms + between_ms) / 1000)

    async def wait_until_ended(self) -> None:
        """Return when the connection is gone."""
        await self.ended.wait()


async def place_webrtc_call(web_url: str, plan: CallPlan) -> WebRtcCallHeard:
    """Call the tenant's first agent as the page does, act the scenario out, hang up. Raises CarrierError."""
    async with AsyncExitStack() as stack:
        connection = RTCPeerConnection()
        stack.push_async_callback(connection.close)
        party = _WebRtcParty(connection)
        ear = Ear()
        heard: list[tuple[float, Samples]] = []
        arrived: asyncio.Queue[MediaStreamTrack] = asyncio.Queue(1)
        connection.add_listener("track", arrived.put_nowait)
        connection.add_listener("connectionstatechange", _watch(connection, party))
        session = await stack.enter_async_context(aiohttp.ClientSession(headers={"Origin": web_url}))
        log = CallLog()
        async with asyncio.timeout(CONNECT_WITHIN_S):
            await _offer(connection, session, web_url, await _first_agent(session, web_url, plan.scenario.tenant))
            track = await arrived.get()
        log.started_s = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(_listen(track, ear, heard), name=f"webrtc:{plan.call_id}:listen")
            ticking = group.create_task(_tick(ear), name=f"webrtc:{plan.call_id}:tick")
            script = group.create_task(follow(party, plan, ear, log), name=f"webrtc:{plan.call_id}:script")
            gone = group.create_task(party.wait_until_ended(), name=f"webrtc:{plan.call_id}:gone")
            await asyncio.wait({script, gone}, timeout=LONGEST_CALL_S, return_when=asyncio.FIRST_COMPLETED)
            for task in (listening, ticking, script, gone):
                task.cancel()
        recording = _recorded(party.microphone, heard, log.started_s)
        return WebRtcCallHeard(
            utterances=tuple(log.utterances),
            recording=recording,
            exchange=hear(recording, log.utterances),
            problems=tuple(log.problems),
        )


async def _first_agent(session: aiohttp.ClientSession, web_url: str, tenant: str) -> str:
    async with session.get(f"{web_url}/api/agents") as answer:
        names = [str(agent["name"]) for agent in await answer.json()]
    for name in names:
        if name.split("/")[0] == tenant:
            return name
    raise CarrierError(f"the node has no agent of {tenant} on its page; there are: {', '.join(names)}")


async def _offer(connection: RTCPeerConnection, session: aiohttp.ClientSession, web_url: str, agent: str) -> None:
    await connection.setLocalDescription(await connection.createOffer())
    body = {"agent": agent, "sdp": connection.localDescription.sdp}
    async with session.post(f"{web_url}/api/calls", json=body) as answer:
        if answer.status != HTTP_CREATED:
            raise CarrierError(f"the node refused the WebRTC call: {answer.status} {(await answer.text())[:200]}")
        started = await answer.json()
    await connection.setRemoteDescription(RTCSessionDescription(sdp=started["sdp"], type="answer"))


def _watch(connection: RTCPeerConnection, party: _WebRtcParty) -> Callable[[], None]:
    def changed() -> None:
        if connection.connectionState in {"failed", "closed"}:
            party.ended.set()

    return changed


async def _listen(track: MediaStreamTrack, ear: Ear, heard: list[tuple[float, Samples]]) -> None:
    from aiortc.mediastreams import MediaStreamError  # noqa: PLC0415 - beside its only use

    with contextlib.suppress(MediaStreamError):
        while True:
            frame = await track.recv()
            if not isinstance(frame, AudioFrame):
                continue
            samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0]
            narrow = soxr.resample(samples.astype(np.float32), frame.sample_rate, TRUNK_HZ).astype(np.int16)
            heard.append((asyncio.get_running_loop().time(), narrow))
            ear.hear(g711.encode(narrow))


async def _tick(ear: Ear) -> None:
    while True:
        await asyncio.sleep(0.1)
        ear.tick()


def _recorded(microphone: _Microphone, heard: list[tuple[float, Samples]], started_s: float) -> Recording:
    """Both sides on one clock that begins at the answer."""
    began_s = microphone.began_s if microphone.began_s is not None else started_s
    sent = np.concatenate([np.zeros(0, np.int16), *microphone.sent])
    offset = round((started_s - began_s) * TRUNK_HZ)
    caller = sent[offset:] if offset >= 0 else np.pad(sent, (-offset, 0))
    agent = np.zeros(len(caller), np.int16)
    for position, samples in _placed(heard, started_s):
        end = min(len(agent), position + len(samples))
        if position < end:
            agent[position:end] = samples[: end - position]
    return Recording(rate_hz=TRUNK_HZ, caller=caller, agent=agent)


def _placed(heard: list[tuple[float, Samples]], started_s: float) -> Iterator[tuple[int, Samples]]:
    """Frames one after the other; one that is later than its place by more than 60 ms was waited for."""
    following = 0
    for arrived_s, samples in heard:
        arrival = round((arrived_s - started_s) * TRUNK_HZ) - len(samples)
        if abs(arrival - following) > 3 * FRAME_SAMPLES:
            following = arrival
        if following >= 0:
            yield following, samples
        following += len(samples)
