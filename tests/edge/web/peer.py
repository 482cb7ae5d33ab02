"""A real WebRTC caller for tests: an aiortc peer that says tones and records what it hears."""

import asyncio
import contextlib
import fractions
import time
from collections.abc import AsyncIterator

import av
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from numpy.typing import NDArray

RATE_HZ = 48_000
FRAME_SAMPLES = 960


def tone(frequency_hz: float, seconds: float, rate_hz: int = 16_000, amplitude: int = 8000) -> bytes:
    """A sine as int16 little-endian mono."""
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    return (amplitude * np.sin(2 * np.pi * frequency_hz * times)).astype("<i2").tobytes()


def level(pcm: bytes) -> float:
    """Root mean square of int16 samples."""
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float64)
    return float(np.sqrt(np.mean(samples**2))) if samples.size else 0.0


def frequency_hz(pcm: bytes, rate_hz: int = 16_000) -> float:
    """The strongest frequency."""
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float64)
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.argmax(spectrum) * rate_hz / samples.size)


class ToneTrack(MediaStreamTrack):
    """Silence, or a tone while `is_on`; paced in real time."""

    kind = "audio"

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self._tone = np.frombuffer(tone(frequency, 1.0, RATE_HZ), dtype="<i2")
        self._began_s: float | None = None
        self._pts = 0
        self.is_on = False
        self.turned_on_s = 0.0

    async def recv(self) -> av.AudioFrame:
        now_s = time.monotonic()
        self._began_s = now_s if self._began_s is None else self._began_s
        await asyncio.sleep(max(0.0, self._began_s + self._pts / RATE_HZ - now_s))
        if self.is_on and not self.turned_on_s:
            self.turned_on_s = time.monotonic()
        start = self._pts % RATE_HZ
        samples = self._tone[start : start + FRAME_SAMPLES] if self.is_on else np.zeros(FRAME_SAMPLES, dtype="<i2")
        # Stereo, since aiortc's encoder would turn mono down by 3 dB.
        frame = av.AudioFrame.from_ndarray(np.repeat(samples, 2).reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, self._pts, fractions.Fraction(1, RATE_HZ)
        self._pts += FRAME_SAMPLES
        return frame


class Peer:
    """A caller: `heard` holds mono samples at 48 kHz with the arrival time of each frame."""

    def __init__(self) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.voice = ToneTrack(440.0)
        self.heard: list[tuple[float, NDArray[np.int16]]] = []
        self.has_heard_more = asyncio.Event()
        self.digits = self.connection.createDataChannel("digits")
        self.digits_open = asyncio.Event()
        self.digits.on("open", self.digits_open.set)
        self.remote: MediaStreamTrack | None = None
        self.connection.on("track", self._keep)
        self.connection.addTrack(self.voice)

    def _keep(self, track: MediaStreamTrack) -> None:
        self.remote = track

    async def offer(self) -> str:
        """The peer's session description."""
        await self.connection.setLocalDescription(await self.connection.createOffer())
        sdp: str = self.connection.localDescription.sdp
        return sdp

    async def accept(self, answer_sdp: str) -> None:
        """Take our answer."""
        await self.connection.setRemoteDescription(RTCSessionDescription(sdp=answer_sdp, type="answer"))

    def lose_packets(self, count: int) -> None:
        """Drop the next packets on their way out."""
        transport = self.connection.getSenders()[0].transport
        send = transport._send_rtp
        left = iter(range(count))

        async def lossy(data: bytes) -> None:
            if next(left, None) is None:
                await send(data)

        vars(transport)["_send_rtp"] = lossy

    async def listen(self) -> None:
        """Record until the other side ends."""
        assert self.remote is not None
        with contextlib.suppress(MediaStreamError):
            while True:
                frame = await self.remote.recv()
                assert isinstance(frame, av.AudioFrame)
                samples = frame.to_ndarray().reshape(-1, 2)[:, 0].astype(np.int16)
                self.heard.append((time.monotonic(), samples))
                self.has_heard_more.set()

    def heard_pcm(self) -> bytes:
        """All that was heard so far, int16 mono at 48 kHz."""
        return b"".join(samples.tobytes() for _, samples in self.heard)


@contextlib.asynccontextmanager
async def open_peer() -> AsyncIterator[Peer]:
    """A caller whose connection is closed at the end."""
    peer = Peer()
    try:
        yield peer
    finally:
        async with asyncio.timeout(5):
            await peer.connection.close()
