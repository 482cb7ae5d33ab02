"""A caller on WebRTC (a web page): Opus over SRTP to the call's 16 kHz frames and back. Knows no HTTP and no page.

Inbound. aiortc hands packets to its decoder through a jitter buffer made for loudspeakers: it holds back 80 ms, and
one lost packet makes it 300 ms for the rest of the call, as it waits for sixteen packets and then passes on one for
one. A recogniser needs order, not an even flow, so `PassThroughOrder` takes its place: every packet at once, late ones
dropped, gaps filled with silence here by their RTP timestamps.

Outbound. This side owns the playout clock: one 20 ms frame when due. A clock that is late (a busy loop) goes on from
now and sends no burst to catch up, since a burst only fills the browser's buffer and delays everything after it.
Frames are encoded at 16 kHz mono, which spares the resampling to 48 kHz stereo that aiortc would do.

Only host candidates are offered: no STUN, so nothing is asked of the internet.
"""

import asyncio
import contextlib
import fractions
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import cast

import av
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCRtpReceiver, RTCSessionDescription
from aiortc.exceptions import InvalidAccessError, InvalidStateError
from aiortc.jitterbuffer import JitterFrame
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtp import RtpPacket

from contract.errors import Blame, BoroughError
from edge.call.ports import (
    FRAME_BYTES,
    FRAME_SAMPLES,
    SAMPLE_RATE_HZ,
    AudioReceived,
    DigitPressed,
    HangupCause,
    LegClosed,
    LegEvent,
    PlayoutReached,
    TransferOutcome,
)

FRAME_S = FRAME_SAMPLES / SAMPLE_RATE_HZ
SILENCE = bytes(FRAME_BYTES)
TIME_BASE = fractions.Fraction(1, SAMPLE_RATE_HZ)
OPUS_CLOCK_HZ = 48_000
# A packet less than this behind is late; one further behind belongs to a stream that began anew (RFC 3550 A.1).
LATE_PACKETS = 100
DIGITS = frozenset("0123456789*#ABCD")
DIGITS_CHANNEL = "digits"

Transferrer = Callable[[str, Sequence[bytes], float], Awaitable[TransferOutcome]]


class WebRtcOfferError(BoroughError):
    """The caller's session description cannot be answered."""

    code = "media.webrtc_offer"
    blame = Blame.REMOTE
    hint = "The page must offer one audio track; use a current browser."


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRtcSettings:
    """Limits of a WebRTC leg.

    Audio from the caller beyond `inbound_limit_frames` unread frames is dropped, oldest first. After `stall_s` without
    a packet silence is delivered, so that no utterance stays open; after `lost_after_s` the leg is closed (a browser
    that crashed says no good-bye, and ICE notices only after 30 s).
    """

    connect_s: float = 10.0
    stall_s: float = 0.5
    lost_after_s: float = 10.0
    close_s: float = 3.0
    look_ahead_s: float = 2.0
    inbound_limit_frames: int = 250
    gap_limit_s: float = 1.0
    bit_rate: int = 32_000


class PassThroughOrder:
    """Stands in for aiortc's jitter buffer: passes each packet on at once and drops those that come too late."""

    def __init__(self) -> None:
        self._newest: int | None = None

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        """Whether a key frame is wanted (never, for audio), and the packet if it is newer than all before."""
        number: int = packet.sequence_number
        if self._newest is not None and (self._newest - number) % 65536 < LATE_PACKETS:
            return False, None
        self._newest = number
        data: bytes = packet._data  # type: ignore[attr-defined]  # noqa: SLF001 - where aiortc puts the payload
        return False, JitterFrame(data=data, timestamp=packet.timestamp)


class FrameAssembler:
    """Cuts decoded audio into 20 ms frames and fills gaps between RTP timestamps with silence."""

    def __init__(self, gap_limit_s: float) -> None:
        self._limit = round(gap_limit_s * OPUS_CLOCK_HZ)
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE_HZ)
        self._pending = bytearray()
        self._next_pts: int | None = None
        self.filled_samples = 0

    def add(self, frame: av.AudioFrame) -> list[bytes]:
        """Frames that are complete with this audio (48 kHz, `pts` on the 48 kHz clock)."""
        pts = frame.pts or 0
        if self._next_pts is not None and pts > self._next_pts:
            gap = min(pts - self._next_pts, self._limit) * SAMPLE_RATE_HZ // OPUS_CLOCK_HZ
            self.filled_samples += gap
            self._pending += bytes(2 * gap)
        self._next_pts = pts + frame.samples
        frame.pts = None  # the resampler would refuse or fill a jump by itself
        for converted in self._resampler.resample(frame):
            self._pending += bytes(converted.planes[0])[: 2 * converted.samples]
        return self._cut()

    def _cut(self) -> list[bytes]:
        whole = len(self._pending) // FRAME_BYTES * FRAME_BYTES
        frames = [bytes(self._pending[start : start + FRAME_BYTES]) for start in range(0, whole, FRAME_BYTES)]
        del self._pending[:whole]
        return frames


class PlayoutBuffer:
    """What is still to be played, with marks by sample position. Synchronous; the track below gives it the clock."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._marks: deque[tuple[int, str]] = deque()
        self._pushed_samples = 0
        self._played_samples = 0
        self._is_paused = False

    @property
    def queued_samples(self) -> int:
        """How much is left to play."""
        return len(self._pending) // 2

    def push(self, pcm: bytes) -> None:
        """Append whole samples."""
        self._pending += pcm
        self._pushed_samples += len(pcm) // 2

    def mark(self, name: str) -> None:
        """Set a mark behind everything pushed so far."""
        self._marks.append((self._pushed_samples, name))

    def pause(self) -> None:
        """From the next frame on there is silence, and nothing is used up."""
        self._is_paused = True

    def resume(self) -> None:
        """Go on with the sample that `pause` held back."""
        self._is_paused = False

    def flush(self) -> None:
        """Drop all that is left and its marks; also ends a pause, as nothing is held back any more."""
        self._pending.clear()
        self._marks.clear()
        self._played_samples = self._pushed_samples
        self._is_paused = False

    def take_frame(self) -> bytes:
        """The next 20 ms; short or missing audio is completed with silence."""
        if self._is_paused or not self._pending:
            return SILENCE
        frame = bytes(self._pending[:FRAME_BYTES])
        del self._pending[:FRAME_BYTES]
        self._played_samples += len(frame) // 2
        return frame.ljust(FRAME_BYTES, b"\0")

    def reached_marks(self) -> list[str]:
        """Marks that all frames taken so far have passed, each once."""
        reached = []
        while self._marks and self._marks[0][0] <= self._played_samples:
            reached.append(self._marks.popleft()[1])
        return reached


class PlayoutClock:
    """When each 20 ms frame is due. Late frames go out at once, and the beat goes on from there."""

    def __init__(self) -> None:
        self._due_s: float | None = None
        self.late_frames = 0

    def wait_s(self, now_s: float) -> float:
        """How long to wait for the next frame."""
        if self._due_s is None:
            self._due_s = now_s
            return 0.0
        self._due_s += FRAME_S
        if self._due_s < now_s:
            self.late_frames += 1
            self._due_s = now_s
        return self._due_s - now_s


class _PlayoutTrack(MediaStreamTrack):
    """The track that aiortc's sender pulls: paced, encoded frames. Tells `on_beat` which marks were reached."""

    kind = "audio"

    def __init__(self, buffer: PlayoutBuffer, bit_rate: int, on_beat: Callable[[list[str]], None]) -> None:
        super().__init__()
        self._buffer = buffer
        self._on_beat = on_beat
        self._encoder = _opus_encoder(bit_rate)
        self._pts = 0
        self.clock = PlayoutClock()

    async def recv(self) -> "av.Packet[av.AudioStream]":
        wait_s = self.clock.wait_s(asyncio.get_running_loop().time())
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        # A frame has been heard when the next one is due, hence before taking it.
        self._on_beat(self._buffer.reached_marks())
        frame = av.AudioFrame(format="s16", layout="mono", samples=FRAME_SAMPLES)
        frame.planes[0].update(self._buffer.take_frame())
        frame.sample_rate = SAMPLE_RATE_HZ
        (packet,) = self._encoder.encode(frame)
        packet.pts, packet.time_base = self._pts, TIME_BASE
        self._pts += FRAME_SAMPLES
        return packet


def _opus_encoder(bit_rate: int) -> av.AudioCodecContext:
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate = SAMPLE_RATE_HZ
    encoder.format = av.AudioFormat("s16")
    encoder.layout = av.AudioLayout("mono")
    encoder.bit_rate = bit_rate
    encoder.time_base = TIME_BASE
    # compression_level 5 of 10: half the time of the default, no difference to hear in speech at 32 kbit/s.
    encoder.options = {"application": "voip", "frame_duration": "20", "compression_level": "5"}
    return encoder


class WebRtcMediaLeg:
    """The audio of one WebRTC caller, as `edge.call.ports.MediaLeg`. Made by `answer_webrtc`."""

    def __init__(self, settings: WebRtcSettings) -> None:
        self._settings = settings
        self._playout = PlayoutBuffer()
        self._events: deque[LegEvent] = deque()
        self._queued_frames = 0
        self._has_event = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._closed: LegClosed | None = None
        self.track = _PlayoutTrack(self._playout, settings.bit_rate, self._beat)
        self.dropped_frames = 0

    async def receive(self) -> LegEvent:
        """Return the next event; after LegClosed it keeps returning LegClosed."""
        while not self._events:
            if self._closed is not None:
                return self._closed
            self._has_event.clear()
            await self._has_event.wait()
        event = self._events.popleft()
        self._queued_frames -= isinstance(event, AudioReceived)
        return event

    async def send(self, pcm: bytes) -> None:
        """Queue audio for the caller; waits while more than two seconds are queued."""
        while self._closed is None and self._queued_s() > self._settings.look_ahead_s:
            self._has_room.clear()
            await self._has_room.wait()
        if self._closed is None:
            self._playout.push(pcm)

    async def mark(self, name: str) -> None:
        """Ask for PlayoutReached(name) once everything sent so far has left here and its time has passed."""
        self._playout.mark(name)

    async def pause(self) -> None:
        """Stop playing with the next frame and keep what is queued."""
        self._playout.pause()

    async def resume(self) -> None:
        """Go on where `pause` stopped."""
        self._playout.resume()

    async def flush(self) -> None:
        """Stop playing and drop what is queued; ends a pause too."""
        self._playout.flush()
        self._has_room.set()

    def deliver(self, event: LegEvent) -> None:
        """Queue an event for `receive`; of too much unread audio the oldest is dropped and counted."""
        if self._closed is not None:
            return
        if isinstance(event, AudioReceived):
            if self._queued_frames >= self._settings.inbound_limit_frames:
                self._drop_oldest_frame()
            self._queued_frames += 1
        self._events.append(event)
        self._has_event.set()

    def close(self, reason: str) -> None:
        """Nothing follows; wakes everyone who waits. A second call does nothing."""
        if self._closed is None:
            self._closed = LegClosed(reason=reason)
            self._has_event.set()
            self._has_room.set()

    def _queued_s(self) -> float:
        return self._playout.queued_samples / SAMPLE_RATE_HZ

    def _drop_oldest_frame(self) -> None:
        oldest = next(index for index, event in enumerate(self._events) if isinstance(event, AudioReceived))
        del self._events[oldest]
        self._queued_frames -= 1
        self.dropped_frames += 1

    def _beat(self, marks: list[str]) -> None:
        for name in marks:
            self.deliver(PlayoutReached(mark=name))
        if self._queued_s() <= self._settings.look_ahead_s:
            self._has_room.set()


class WebRtcCallControl:
    """Control of a WebRTC caller, as `edge.call.ports.CallControl`.

    A browser cannot be bridged to a SIP number here; without a `transferrer` every transfer is UNREACHABLE.
    """

    def __init__(self, leg: WebRtcMediaLeg, transferrer: Transferrer | None) -> None:
        self._leg = leg
        self._transferrer = transferrer
        self._ended = asyncio.Event()

    @property
    def was_lost(self) -> bool:
        """Never known: a browser that is closed and one that lost its network look the same."""
        return False

    async def hang_up(self, cause: HangupCause) -> None:
        """Have the peer connection closed; does nothing when it is already gone."""
        self.end(f"we hung up with cause {cause}")

    async def transfer(self, destination: str, *, whisper: Sequence[bytes], timeout_s: float) -> TransferOutcome:
        """UNREACHABLE unless a transferrer was given; the caller stays with us."""
        if self._ended.is_set():
            return TransferOutcome.CALLER_GONE
        if self._transferrer is None:
            return TransferOutcome.UNREACHABLE
        return await self._transferrer(destination, whisper, timeout_s)

    async def wait_until_ended(self) -> None:
        """Return when the caller is gone."""
        await self._ended.wait()

    def end(self, reason: str) -> None:
        """Close the leg for `reason`; `answer_webrtc` then closes the connection."""
        self._leg.close(reason)
        self._ended.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class WebRtcCall:
    """A caller who was sent our answer; `connected` is set once audio can flow."""

    leg: WebRtcMediaLeg
    control: WebRtcCallControl
    answer_sdp: str
    connected: asyncio.Event


@contextlib.asynccontextmanager
async def answer_webrtc(
    offer_sdp: str, settings: WebRtcSettings, transferrer: Transferrer | None = None
) -> AsyncIterator[WebRtcCall]:
    """Answer an offer and carry its audio while the context is open. Raises WebRtcOfferError."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    leg = WebRtcMediaLeg(settings)
    control = WebRtcCallControl(leg, transferrer)
    connected = asyncio.Event()
    _listen(connection, leg, connected)
    try:
        track = await _negotiate(connection, leg, offer_sdp)
        async with asyncio.TaskGroup() as group:
            # A task of its own: a close that is cancelled half-way leaves sockets open, and cannot be repeated.
            group.create_task(_close_when_ended(connection, control, settings.close_s), name="webrtc:close")
            pump = group.create_task(_pump(track, leg, control, connected, settings), name="webrtc:inbound")
            try:
                yield WebRtcCall(
                    leg=leg, control=control, answer_sdp=connection.localDescription.sdp, connected=connected
                )
            finally:
                control.end("the call is over")
                pump.cancel()
    finally:
        await _close(connection, settings.close_s)


async def _close_when_ended(connection: RTCPeerConnection, control: WebRtcCallControl, close_s: float) -> None:
    await control.wait_until_ended()
    await _close(connection, close_s)


async def _close(connection: RTCPeerConnection, close_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(close_s):
            await connection.close()


async def _negotiate(connection: RTCPeerConnection, leg: WebRtcMediaLeg, offer_sdp: str) -> MediaStreamTrack:
    try:
        await connection.setRemoteDescription(RTCSessionDescription(sdp=offer_sdp, type="offer"))
        receivers = [receiver for receiver in connection.getReceivers() if receiver.track.kind == "audio"]
        if len(receivers) != 1:
            raise WebRtcOfferError(f"the offer has {len(receivers)} audio tracks, one is needed")
        _pass_packets_through(receivers[0])
        connection.addTrack(leg.track)
        await connection.setLocalDescription(await connection.createAnswer())
    except (
        ValueError,
        KeyError,
        IndexError,
        AttributeError,
        AssertionError,
        InvalidAccessError,
        InvalidStateError,
    ) as e:
        # aiortc's SDP parser has no error of its own: malformed lines surface as these.
        raise WebRtcOfferError("the offer is not a usable session description") from e
    return receivers[0].track


def _pass_packets_through(receiver: RTCRtpReceiver) -> None:
    # aiortc 1.16 has no setting for it; a test fails if the attribute is renamed.
    vars(receiver)["_RTCRtpReceiver__jitter_buffer"] = PassThroughOrder()


def _listen(connection: RTCPeerConnection, leg: WebRtcMediaLeg, connected: asyncio.Event) -> None:
    def state_changed() -> None:
        if connection.connectionState == "connected":
            connected.set()
        elif connection.connectionState in {"failed", "closed"}:
            leg.close(f"the connection {connection.connectionState}")

    def channel_opened(channel: RTCDataChannel) -> None:
        if channel.label == DIGITS_CHANNEL:
            channel.on("message", digit_pressed)

    def digit_pressed(message: str | bytes) -> None:
        if isinstance(message, str) and message in DIGITS:
            leg.deliver(DigitPressed(digit=message))

    connection.on("connectionstatechange", state_changed)
    connection.on("datachannel", channel_opened)


async def _pump(
    track: MediaStreamTrack,
    leg: WebRtcMediaLeg,
    control: WebRtcCallControl,
    connected: asyncio.Event,
    settings: WebRtcSettings,
) -> None:
    """Carry the caller's audio into the leg until it ends, then end the call's connection."""
    reason = "the caller hung up"
    try:
        async with asyncio.timeout(settings.connect_s):
            await connected.wait()
        await _carry(track, leg, settings)
    except MediaStreamError:
        pass
    except TimeoutError:
        reason = "no audio arrived" if connected.is_set() else "the connection was not made in time"
    control.end(reason)


async def _carry(track: MediaStreamTrack, leg: WebRtcMediaLeg, settings: WebRtcSettings) -> None:
    loop = asyncio.get_running_loop()
    assembler = FrameAssembler(settings.gap_limit_s)
    last_packet_s = loop.time()
    patience_s = settings.stall_s
    while True:
        try:
            async with asyncio.timeout(patience_s):
                decoded = await track.recv()
        except TimeoutError:
            if loop.time() - last_packet_s > settings.lost_after_s:
                raise
            leg.deliver(AudioReceived(pcm=SILENCE))
            patience_s = FRAME_S
            continue
        last_packet_s = loop.time()
        patience_s = settings.stall_s
        for pcm in assembler.add(cast("av.AudioFrame", decoded)):
            leg.deliver(AudioReceived(pcm=pcm))
