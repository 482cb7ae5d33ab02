"""The media leg against a websocket server of our own: what a real Asterisk cannot be made to do at will."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from edge.call.ports import FRAME_BYTES, AudioReceived, DigitPressed, LegClosed, PlayoutReached
from edge.media.asterisk_websocket import AsteriskMediaLeg, MediaProtocolError, open_leg
from edge.media.leg_inbox import LegInbox

START = {"event": "MEDIA_START", "optimal_frame_size": FRAME_BYTES, "channel_id": "c"}
FRAME = b"\1\0" * 320


class Driver:
    """The far end: collects what the leg says, and says what the test wants."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket

    async def next_command(self) -> tuple[str, str | None]:
        """The next command that is not part of the leg's silence."""
        async with asyncio.timeout(3):
            while True:
                message = await self.socket.receive()
                if message.type is aiohttp.WSMsgType.BINARY:
                    if any(message.data):
                        return f"audio {len(message.data)}", None
                    continue
                command = json.loads(message.data)
                assert len(message.data) <= 128
                if not str(command.get("correlation_id", "")).startswith("silence"):
                    return command["command"], command.get("correlation_id")

    async def say(self, **event: object) -> None:
        await self.socket.send_str(json.dumps(event))


Scene = Callable[[Driver], Awaitable[None]]


@asynccontextmanager
async def leg_with(scene: Scene) -> AsyncIterator[AsteriskMediaLeg]:
    """A leg whose far end plays a scene and then stays until the leg closes."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("media",))
        await socket.prepare(request)
        await scene(Driver(socket))
        async for _ in socket:
            pass
        return socket

    app = web.Application()
    app.router.add_get("/media", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as tasks:
            connection = session.ws_connect(f"http://127.0.0.1:{port}/media", protocols=("media",))
            async with open_leg(connection, tasks, name="test") as leg:
                yield leg
    finally:
        await runner.cleanup()


async def test_events_become_leg_events() -> None:
    """Audio before MEDIA_START is skipped; digits, audio and malformed messages after it."""

    async def scene(driver: Driver) -> None:
        await driver.socket.send_bytes(FRAME)
        await driver.say(**START)
        await driver.socket.send_bytes(FRAME + b"\1")
        await driver.socket.send_str("no json")
        await driver.socket.send_str("[]")
        await driver.say(event="SOMETHING_NEW")
        await driver.say(event="DTMF_END", digit="5")
        await driver.socket.send_bytes(FRAME)
        await driver.socket.close()

    async with leg_with(scene) as leg, asyncio.timeout(3):
        assert await leg.receive() == DigitPressed(digit="5")
        assert await leg.receive() == AudioReceived(pcm=FRAME)
        assert isinstance(await leg.receive(), LegClosed)
        assert isinstance(await leg.receive(), LegClosed)
        assert leg.malformed_messages == 3
        await leg.send(FRAME)
        await leg.mark("late")
        await leg.flush()


async def test_first_audio_ends_the_silence_and_marks_keep_their_order() -> None:
    """FLUSH_MEDIA takes the silence away, then whole frames, then a mark behind the padded rest."""
    said: list[tuple[str, str | None]] = []

    async def scene(driver: Driver) -> None:
        await driver.say(**START)
        while len(said) < 5:
            said.append(await driver.next_command())
        await driver.say(event="MEDIA_MARK_PROCESSED", correlation_id=said[-1][1])

    async with leg_with(scene) as leg, asyncio.timeout(3):
        await leg.send(FRAME + b"\1\0")
        await leg.mark("m")
        assert await leg.receive() == PlayoutReached(mark="m")
    assert [command for command, _ in said] == ["FLUSH_MEDIA", "audio 640", "MARK_MEDIA", "audio 640", "MARK_MEDIA"]


async def test_messages_stay_short_and_two_seconds_are_the_limit() -> None:
    """No message over 8000 bytes, nothing beyond two seconds until a mark comes back."""
    sizes: list[int] = []
    limit_reached = asyncio.Event()

    async def scene(driver: Driver) -> None:
        await driver.say(**START)
        while sum(sizes) < 64_000:
            command, _ = await driver.next_command()
            if command.startswith("audio"):
                sizes.append(int(command.split()[1]))
        limit_reached.set()

    async with leg_with(scene) as leg, asyncio.TaskGroup() as group:
        sending = group.create_task(leg.send(FRAME * 200))
        async with asyncio.timeout(3):
            await limit_reached.wait()
            assert leg.queued_s == 2.0
            assert not sending.done()
            await leg.flush()
            await sending
    assert max(sizes) <= 8000
    assert sum(sizes) == 64_000


async def test_pause_survives_until_resume_or_flush() -> None:
    """A flush resumes, or what is said next would not be heard."""
    said: list[str] = []
    done = asyncio.Event()

    async def scene(driver: Driver) -> None:
        await driver.say(**START)
        while said[-2:] != ["FLUSH_MEDIA", "CONTINUE_MEDIA"]:
            said.append((await driver.next_command())[0])
        done.set()

    async with leg_with(scene) as leg, asyncio.timeout(3):
        await leg.pause()
        await leg.resume()
        await leg.pause()
        await leg.flush()
        await done.wait()
    assert said == ["PAUSE_MEDIA", "CONTINUE_MEDIA", "PAUSE_MEDIA", "FLUSH_MEDIA", "CONTINUE_MEDIA"]


@pytest.mark.parametrize(
    "start", [{**START, "optimal_frame_size": 160}, None], ids=["wrong frame size", "closed before the start"]
)
async def test_wrong_start_is_refused(start: dict[str, object] | None) -> None:
    """Another format or no start at all."""

    async def scene(driver: Driver) -> None:
        if start is not None:
            await driver.say(**start)
        else:
            await driver.socket.close()

    with pytest.raises(ExceptionGroup) as caught:
        async with leg_with(scene):
            pass
    assert caught.group_contains(MediaProtocolError)


async def test_full_inbox_drops_the_oldest_audio_and_nothing_else() -> None:
    """Digits and the end survive any amount of audio."""
    inbox = LegInbox(max_audio_frames=3)
    inbox.put(DigitPressed(digit="1"))
    for number in range(10):
        inbox.put(AudioReceived(pcm=bytes([number])))
    inbox.put(LegClosed(reason="end"))
    inbox.put(DigitPressed(digit="2"))
    assert inbox.dropped_frames == 7
    events = [await inbox.get() for _ in range(6)]
    assert events == [
        DigitPressed(digit="1"),
        *(AudioReceived(pcm=bytes([number])) for number in (7, 8, 9)),
        LegClosed(reason="end"),
        LegClosed(reason="end"),
    ]
