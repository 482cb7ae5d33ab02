"""The carrier of a run: a second Asterisk that rings the node's trunk and answers as the human desk.

Owns the carrier's ARI and the media socket of each simulated party. It is the measuring side, so it shares no code
with the node's telephony: a fault there cannot hide itself here. Media goes as mu-law, untranscoded, because the
carrier runs on the same cores as the node under test.

Tasks (all in one group, ended by leaving the context): `carrier:events` reads the event socket and hands events to
whoever waits for that channel; every incoming human leg gets a task `carrier:human:<channel>`.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from bench.errors import CarrierError
from provisioning.asterisk.instance import AsteriskInstance
from provisioning.asterisk.settings import AsteriskSettings, CarrierDialplan, PortRange, TrunkPeer
from provisioning.local.layout import free_port

INSIDE_RECORDINGS = "/srv/recordings"
CALLER_APP = "caller"
HUMAN_APP = "human"
FRAME_BYTES = 160  # 20 ms of mu-law
# Larger messages may take Asterisk more reads than it is patient for (LESSONS.md, chan_websocket).
MESSAGE_BYTES = 12 * FRAME_BYTES
BYTES_PER_S = 8000
# How much silence is sent at once: long enough to be cheap, short enough not to hold back a line.
SILENCE_AHEAD_S = 0.1
SILENCE = bytes([0xFF]) * int(SILENCE_AHEAD_S * BYTES_PER_S)
REQUEST_TIMEOUT_S = 10.0
DEFAULT_RTP_PORTS = PortRange(first=26_000, last=31_998)
RING_TIMEOUT_S = 20.0
MEDIA_TIMEOUT_S = 5.0
CHANNEL_EVENTS = 64
NORMAL_CLEARING = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelEnded:
    """A channel is gone, or never got an answer; `cause` is Q.850."""

    cause: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IncomingCall:
    """The node rings the desk."""

    channel_id: str
    called_number: str
    caller_number: str


@dataclass(slots=True)
class _Watched:
    """What is known about one channel of ours."""

    entered: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    cause: int = 0


class PartyMedia:
    """The audio of one simulated party: sends mu-law, receives mu-law frames of 20 ms.

    A phone sends RTP all the time, so silence is sent when there is nothing to say (`keep_sending`); without it the
    node would get no audio to listen to, and the recording's clock would stand still while both sides are quiet.
    """

    def __init__(self, socket_: aiohttp.ClientWebSocketResponse, channel_id: str) -> None:
        self.channel_id = channel_id
        self._socket = socket_
        # Until when audio is queued in Asterisk, by the loop's clock.
        self._queued_until_s = 0.0

    async def play(self, codes: bytes) -> float:
        """Queue audio; Asterisk clocks it out. Returns in how many seconds it begins to be heard.

        At most 15 s at a time: Asterisk's queue holds 18.
        """
        now = asyncio.get_running_loop().time()
        begins = max(now, self._queued_until_s)
        padded = codes + bytes([0xFF]) * (-len(codes) % FRAME_BYTES)
        self._queued_until_s = begins + len(padded) / BYTES_PER_S
        for start in range(0, len(padded), MESSAGE_BYTES):
            await self._socket.send_bytes(padded[start : start + MESSAGE_BYTES])
        return begins - now

    async def stop_playing(self) -> None:
        """Drop what is still queued."""
        self._queued_until_s = 0.0
        await self._socket.send_json({"command": "FLUSH_MEDIA"})

    async def keep_sending(self, tick: Callable[[], None]) -> None:
        """Send silence whenever there is nothing else, and call `tick` ten times a second; runs until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            if self._queued_until_s - clock() < SILENCE_AHEAD_S / 2:
                await self.play(SILENCE)
            tick()
            await asyncio.sleep(SILENCE_AHEAD_S)

    async def receive(self) -> bytes | None:
        """The next audio; None once the socket is closed."""
        while True:
            message = await self._socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                return bytes(message.data)
            if message.type is not aiohttp.WSMsgType.TEXT:
                return None

    async def close(self) -> None:
        await self._socket.close()


HumanAnswers = Callable[["Carrier", IncomingCall], Coroutine[None, None, None]]


class Carrier:
    """A running carrier: `async with Carrier(...) as carrier`. Raises CarrierError."""

    def __init__(self, image: Path, settings: AsteriskSettings, human: HumanAnswers) -> None:
        self.settings = settings
        self.instance = AsteriskInstance(image, settings)
        self._human = human
        self._stack = AsyncExitStack()
        self._channels: dict[str, _Watched] = {}
        self._session: aiohttp.ClientSession | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._humans: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.instance)
            access = self.settings.ari
            self._session = await stack.enter_async_context(
                aiohttp.ClientSession(
                    headers={"Authorization": aiohttp.encode_basic_auth(access.user, access.password)},
                    timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S),
                )
            )
            url = f"{self.settings.ari_url}/events?app={CALLER_APP},{HUMAN_APP}&subscribeAll=true"
            events = await stack.enter_async_context(self._session.ws_connect(url, heartbeat=15.0))
            self._tasks = await stack.enter_async_context(asyncio.TaskGroup())
            reader = self._tasks.create_task(self._read(events), name="carrier:events")
            stack.callback(self._cancel_humans)
            stack.callback(reader.cancel)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def recording(self, call_id: str) -> tuple[Path, Path]:
        """Where the two sides of a call are recorded: what the caller said, what the caller heard."""
        directory = self.settings.recordings_directory
        return directory / f"{call_id}.spoken.wav", directory / f"{call_id}.heard.wav"

    async def originate(self, call_id: str, destination: str, caller_number: str, *, extension: str) -> None:
        """Ring the node; `wait_until_answered` tells how it went."""
        self._channels[call_id] = _Watched()
        variables = {
            "MIX_FILE": f"{INSIDE_RECORDINGS}/{call_id}.mix.wav",
            "HEARD_FILE": f"{INSIDE_RECORDINGS}/{call_id}.heard.wav",
            "SPOKEN_FILE": f"{INSIDE_RECORDINGS}/{call_id}.spoken.wav",
            "CALLER_ARGUMENT": call_id,
        }
        parameters = {
            "endpoint": f"PJSIP/node/{destination}",
            "callerId": caller_number,
            "context": "caller",
            "extension": extension,
            "priority": "1",
            "channelId": call_id,
            "timeout": str(int(RING_TIMEOUT_S)),
        }
        await self.request("POST", "channels", parameters, {"variables": variables})

    async def wait_until_answered(self, call_id: str) -> ChannelEnded | None:
        """None once the call is answered, else why not."""
        watched = self._channels[call_id]
        async with asyncio.timeout(RING_TIMEOUT_S + 5):
            await _first_of(watched.entered, watched.ended)
        return None if watched.entered.is_set() else ChannelEnded(cause=watched.cause)

    async def wait_until_ended(self, channel_id: str) -> ChannelEnded:
        """Return when a channel is gone."""
        watched = self._channels[channel_id]
        await watched.ended.wait()
        return ChannelEnded(cause=watched.cause)

    def ending(self, channel_id: str) -> ChannelEnded | None:
        """How a channel ended, or None while it lives."""
        watched = self._channels[channel_id]
        return ChannelEnded(cause=watched.cause) if watched.ended.is_set() else None

    async def open_media(self, name: str) -> PartyMedia:
        """A party's audio, not yet connected to a call."""
        # A prefix of another channel's id is refused as taken, so the name comes last.
        channel_id = f"media.{name}"
        self._channels[channel_id] = _Watched()
        parameters = {
            "app": CALLER_APP,
            "channelId": channel_id,
            "external_host": "INCOMING",
            "transport": "websocket",
            "encapsulation": "none",
            "connection_type": "server",
            "format": "ulaw",
            "direction": "both",
            "transport_data": "f(json)",
        }
        channel = await self.request("POST", "channels/externalMedia", parameters)
        connection = str(channel["channelvars"]["MEDIA_WEBSOCKET_CONNECTION_ID"])
        url = f"http://127.0.0.1:{self.settings.http_port}/media/{connection}"
        opened = await self._open_session().ws_connect(url, protocols=("media",))
        async with asyncio.timeout(MEDIA_TIMEOUT_S):
            await self._channels[channel_id].entered.wait()
        return PartyMedia(opened, channel_id)

    async def connect(self, name: str, *channel_ids: str) -> None:
        """Put channels into a bridge of this name; makes it when it is not there."""
        await self.request("POST", f"bridges/{name}", {"type": "mixing"})
        await self.request("POST", f"bridges/{name}/addChannel", {"channel": ",".join(channel_ids)})

    async def answer(self, channel_id: str) -> None:
        await self.request("POST", f"channels/{channel_id}/answer")

    async def press(self, channel_id: str, digits: str, *, each_ms: int, between_ms: int) -> None:
        """Send DTMF; returns at once, the digits take their time."""
        parameters = {"dtmf": digits, "duration": str(each_ms), "between": str(between_ms)}
        await self.request("POST", f"channels/{channel_id}/dtmf", parameters)

    async def clear(self, name: str, *channel_ids: str) -> None:
        """Hang channels up and remove the bridge; nothing is an error here, they may be gone already."""
        paths = [*(f"channels/{channel_id}" for channel_id in channel_ids), f"bridges/{name}"]
        for path in paths:
            with contextlib.suppress(CarrierError, TimeoutError, aiohttp.ClientError):
                await self.request("DELETE", path)

    async def count(self, kind: str) -> int:
        """How many `channels` or `bridges` the carrier has now."""
        return len(await self.request("GET", kind))

    async def request(
        self, method: str, path: str, parameters: Mapping[str, str] | None = None, body: object = None
    ) -> Any:
        """One ARI request. Raises CarrierError when it is refused."""
        url = f"{self.settings.ari_url}/{path}"
        async with self._open_session().request(method, url, params=parameters, json=body) as answer:
            if answer.status >= 400:
                raise CarrierError(f"{method} {path}: {answer.status} {(await answer.text())[:200]}")
            return await answer.json() if answer.status != 204 else None

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise CarrierError("the carrier is not running")
        return self._session

    async def _read(self, events: aiohttp.ClientWebSocketResponse) -> None:
        async for message in events:
            event = message.json()
            channel = event.get("channel") or {}
            match event["type"]:
                case "StasisStart" if event["application"] == HUMAN_APP:
                    self._ring_human(channel)
                case "StasisStart":
                    self._watched(channel["id"]).entered.set()
                case "ChannelDestroyed":
                    watched = self._watched(channel["id"])
                    watched.cause = int(event.get("cause", 0))
                    watched.ended.set()
        raise CarrierError("the carrier's event socket closed")

    def _watched(self, channel_id: str) -> _Watched:
        return self._channels.setdefault(channel_id, _Watched())

    def _ring_human(self, channel: Mapping[str, Any]) -> None:
        call = IncomingCall(
            channel_id=channel["id"],
            called_number=channel["dialplan"]["exten"],
            caller_number=channel["caller"]["number"],
        )
        self._watched(call.channel_id)
        assert self._tasks is not None
        task = self._tasks.create_task(self._human(self, call), name=f"carrier:human:{call.channel_id}")
        self._humans.add(task)
        task.add_done_callback(self._humans.discard)

    def _cancel_humans(self) -> None:
        for task in self._humans:
            task.cancel()


def carrier_settings(
    directory: Path,
    *,
    sip_port: int,
    node_sip: tuple[str, int],
    rtp_ports: PortRange = DEFAULT_RTP_PORTS,
    host: str = "127.0.0.1",
    humans_from: tuple[str, ...] = (),
) -> AsteriskSettings:
    """The settings of a carrier at `host` that rings the node at `node_sip`; `humans_from` may ring its humans too."""
    node_host, node_port = node_sip
    return AsteriskSettings(
        name="carrier",
        directory=directory,
        dialplan=CarrierDialplan(caller_app=CALLER_APP, human_app=HUMAN_APP),
        sip_port=sip_port,
        http_port=free_port(socket.SOCK_STREAM),
        rtp_ports=rtp_ports,
        sip_host=host,
        peers=(TrunkPeer(name="node", host=node_host, port=node_port, match=humans_from, qualify_interval_s=0),),
        codecs=("ulaw", "alaw"),
    )


async def _first_of(*events: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(event.wait(), name="carrier:wait") for event in events]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
