"""The caller's audio over Asterisk's media websocket (chan_websocket of Asterisk 22.10, JSON control messages).

Facts of the driver that this module lives with (channels/chan_websocket.c):
- It plays one 20 ms frame per tick of its own clock and, since asterisk#1788, sends nothing at all when it has none:
  the caller would get no packets, and some peers then stop sending, too. So we keep silence queued while we have
  nothing to say, refilled by its own marks (no clock of ours), and flush it away when we have.
- Bytes that do not fill a frame are dropped (without START_MEDIA_BUFFERING): we send whole frames only.
- Its queue takes 1000 frames and then drops silently: we keep at most two seconds in it, known from marks.
- Text messages over 128 bytes are ignored: marks are numbers here, the names stay with us.
- FLUSH_MEDIA drops marks too; they are never answered.
- It reads at most 10 short pieces per message: messages stay below 8000 bytes.
- Audio sent before MEDIA_START is lost: `open_leg` returns after it.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import aiohttp

from contract.errors import BoroughError
from edge.call.ports import FRAME_BYTES, AudioReceived, DigitPressed, LegClosed, LegEvent, PlayoutReached
from edge.media.leg_inbox import LegInbox
from edge.media.playout_window import BYTES_PER_S, PlayoutWindow

START_TIMEOUT_S = 3.0
MAX_QUEUED_BYTES = 2 * BYTES_PER_S
# 240 ms: below the driver's 8000 bytes, and a flush overtakes at most this much.
MAX_MESSAGE_BYTES = 12 * FRAME_BYTES
# Two pieces are queued while idle; a loop that is late by one piece is not heard.
SILENCE = bytes(10 * FRAME_BYTES)
SILENCE_PIECES = 2

MediaSocket = aiohttp.ClientWebSocketResponse


class MediaProtocolError(BoroughError):
    """Asterisk's media websocket did not do what chan_websocket of 22.10 does."""

    code = "media.asterisk_protocol"
    hint = "which Asterisk is this? borough doctor"


class AsteriskMediaLeg:
    """A MediaLeg. Made by `open_leg`, which also runs its reader."""

    def __init__(self, socket: MediaSocket) -> None:
        self.malformed_messages = 0
        self._socket = socket
        self._inbox = LegInbox()
        self._window = PlayoutWindow(MAX_QUEUED_BYTES)
        self._window_moved = asyncio.Event()
        self._sending = asyncio.Lock()
        # Less than a frame of audio, waiting for its rest.
        self._rest = b""
        self._flushes = 0
        # Counts the times that silence was begun; 0 in _silence means that none is queued.
        self._silences = 0
        self._silence = 0
        self._is_paused = False
        self._is_closed = False

    @property
    def dropped_frames(self) -> int:
        """Frames of the caller that were thrown away because the call did not take them in time."""
        return self._inbox.dropped_frames

    @property
    def queued_s(self) -> float:
        """Audio sent and not known to be played, in seconds."""
        return self._window.queued_bytes / BYTES_PER_S

    async def receive(self) -> LegEvent:
        """Return the next event; after LegClosed it keeps returning LegClosed."""
        return await self._inbox.get()

    async def send(self, pcm: bytes) -> None:
        """Queue audio for the caller; waits while more than two seconds are queued.

        What does not fill a frame waits for the next `send` or `mark`. A flush meanwhile drops what is left of `pcm`.
        """
        flushes = self._flushes
        async with self._sending:
            if flushes != self._flushes:
                return
            audio = self._rest + pcm if self._rest else pcm
            whole = len(audio) - len(audio) % FRAME_BYTES
            self._rest = audio[whole:]
            if whole:
                await self._end_silence()
            start = 0
            while start < whole and not self._is_closed:
                await self._wait_for_room()
                if flushes != self._flushes:
                    return
                end = min(whole, start + MAX_MESSAGE_BYTES, start + self._window.room_bytes)
                await self._send_audio(audio[start:end])
                start = end
            checkpoint = self._window.end()
            if checkpoint is not None:
                await self._command("MARK_MEDIA", checkpoint)

    async def mark(self, name: str) -> None:
        """Ask for PlayoutReached(name) once everything sent so far has been played."""
        flushes = self._flushes
        async with self._sending:
            if flushes != self._flushes:
                return
            if self._rest:
                frame, self._rest = self._rest.ljust(FRAME_BYTES, b"\0"), b""
                await self._end_silence()
                await self._send_audio(frame)
            if self._window.is_drained:
                self._inbox.put(PlayoutReached(mark=name))
                return
            await self._command("MARK_MEDIA", self._window.mark(name))

    async def pause(self) -> None:
        """Stop playing at once and keep what is queued."""
        self._is_paused = True
        await self._command("PAUSE_MEDIA")

    async def resume(self) -> None:
        """Go on where `pause` stopped."""
        self._is_paused = False
        await self._command("CONTINUE_MEDIA")

    async def flush(self) -> None:
        """Stop playing at once and drop what is queued; marks in it are never reached."""
        self._flushes += 1
        self._rest = b""
        self._window.flush()
        self._window_moved.set()
        self._silence = 0
        await self._command("FLUSH_MEDIA")
        if self._is_paused:
            await self.resume()
        await self.begin_silence()

    async def begin_silence(self) -> None:
        """Keep the caller's line alive until there is something to say."""
        if self._silence or not self._window.is_drained:
            return
        self._silences += 1
        self._silence = self._silences
        for _ in range(SILENCE_PIECES):
            await self._add_silence(self._silences)

    async def read_until_closed(self) -> None:
        """Take in what Asterisk sends, to the end of the leg. Raises nothing but cancellation."""
        reason = "cancelled"
        try:
            async for message in self._socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    self._take_audio(message.data)
                elif message.type is aiohttp.WSMsgType.TEXT:
                    await self._take_event(message.data)
            reason = f"websocket closed ({self._socket.close_code})"
        finally:
            self._close(reason)

    def _close(self, reason: str) -> None:
        self._is_closed = True
        self._window_moved.set()
        self._inbox.put(LegClosed(reason=reason))

    def _take_audio(self, pcm: bytes) -> None:
        if len(pcm) % 2:
            self.malformed_messages += 1
            return
        self._inbox.put(AudioReceived(pcm=pcm))

    async def _take_event(self, text: str) -> None:
        try:
            event = _parse(text)
        except ValueError:
            self.malformed_messages += 1
            return
        match event.get("event"):
            case "MEDIA_MARK_PROCESSED":
                await self._take_mark(str(event.get("correlation_id")))
            case "DTMF_END":
                self._inbox.put(DigitPressed(digit=str(event.get("digit"))))
            case "ERROR":
                self.malformed_messages += 1

    async def _take_mark(self, number: str) -> None:
        if number.startswith("silence"):
            await self._add_silence(int(number.removeprefix("silence")))
            return
        name = self._window.acknowledge(number)
        self._window_moved.set()
        if name is not None:
            self._inbox.put(PlayoutReached(mark=name))
        await self.begin_silence()

    async def _add_silence(self, silence: int) -> None:
        # Writing to the socket begins before the first await, so that nothing comes between the check and the bytes.
        if silence == self._silence and not self._is_closed and not self._socket.closed:
            with contextlib.suppress(ConnectionError):
                await self._socket.send_bytes(SILENCE)
        if silence == self._silence:
            await self._command("MARK_MEDIA", f"silence{silence}")

    async def _end_silence(self) -> None:
        if self._silence:
            self._silence = 0
            await self._command("FLUSH_MEDIA")

    async def _wait_for_room(self) -> None:
        # Marks come every 200 ms while audio plays; paused or closed legs are ended by `flush`, `resume` or `_close`.
        while self._window.room_bytes < FRAME_BYTES and not self._is_closed:
            self._window_moved.clear()
            await self._window_moved.wait()

    async def _send_audio(self, pcm: bytes) -> None:
        checkpoint = self._window.add(len(pcm))
        if self._is_closed or self._socket.closed:
            return
        # The reader sees a broken connection, too, and reports LegClosed.
        with contextlib.suppress(ConnectionError):
            await self._socket.send_bytes(pcm)
        if checkpoint is not None:
            await self._command("MARK_MEDIA", checkpoint)

    async def _command(self, command: str, correlation_id: str | None = None) -> None:
        message = {"command": command}
        if correlation_id is not None:
            message["correlation_id"] = correlation_id
        if self._is_closed or self._socket.closed:
            return
        with contextlib.suppress(ConnectionError):
            await self._socket.send_str(json.dumps(message))


@asynccontextmanager
async def open_leg(
    connection: AbstractAsyncContextManager[MediaSocket], tasks: asyncio.TaskGroup, *, name: str
) -> AsyncIterator[AsteriskMediaLeg]:
    """Connect, wait for MEDIA_START, and read in a task of the group until the context ends.

    Raises MediaProtocolError when Asterisk's media is not 20 ms frames of 16 kHz linear audio, or does not start.
    """
    async with connection as socket:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await _wait_for_start(socket)
        except TimeoutError as error:
            raise MediaProtocolError(f"no MEDIA_START in {START_TIMEOUT_S:.0f} s") from error
        leg = AsteriskMediaLeg(socket)
        reader = tasks.create_task(leg.read_until_closed(), name=f"{name}:media")
        await leg.begin_silence()
        try:
            yield leg
        finally:
            reader.cancel()


async def _wait_for_start(socket: MediaSocket) -> None:
    while True:
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            continue
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise MediaProtocolError("the media websocket closed before MEDIA_START")
        try:
            event = _parse(message.data)
        except ValueError as error:
            raise MediaProtocolError(f"the first message is not MEDIA_START: {error}") from error
        if event.get("event") == "MEDIA_START":
            if event.get("optimal_frame_size") != FRAME_BYTES:
                raise MediaProtocolError(f"frames of {event.get('optimal_frame_size')} bytes, not {FRAME_BYTES}")
            return


def _parse(text: str) -> dict[str, object]:
    event = json.loads(text)
    if not isinstance(event, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - bad input, not a bug
    return event
