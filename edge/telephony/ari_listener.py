"""Keeps a worker's Stasis app registered and tells what becomes of its channels.

State is kept per channel as levels (in Stasis, gone), not as a queue of events, so that events missed during a
reconnect are made up for by asking Asterisk what still exists. Where nobody listens at Asterisk's port any more, it has
ended and every channel with it: that is told at once, and not when it is back.

A listener can be dead in three ways: the socket breaks (seen at once), Asterisk hangs (websocket heartbeat), or the
socket lives but the app is registered no more (asked every few seconds). In each case we connect again. A fourth is
final: another worker registered our name, which Asterisk lets the newest win; then StasisAppReplacedError ends `run`.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import aiohttp

from edge.telephony.ari import AriClient
from edge.telephony.ari_events import (
    ApplicationReplaced,
    AriEvent,
    ChannelDestroyed,
    ChannelDtmfReceived,
    ChannelHangupRequest,
    ChannelStateChange,
    StasisEnd,
    StasisStart,
    parse_event,
)
from edge.telephony.errors import AriRefusedError, AriUnavailableError, CallerGoneError, StasisAppReplacedError

FIRST_RETRY_S = 0.05
LAST_RETRY_S = 2.0
CHECK_INTERVAL_S = 5.0
# The dialplan's argument for a caller (provisioning.asterisk.dialplan), and the state of one who is not answered.
INBOUND = "inbound"
RINGING = "Ring"


class ChannelWatch:
    """What is known of one channel; `changed` is set at every change and may be shared by several watches."""

    def __init__(self, channel_id: str, changed: asyncio.Event | None = None) -> None:
        self.channel_id = channel_id
        self.changed = changed or asyncio.Event()
        self.is_in_stasis = False
        self.is_gone = False
        # It went with its Asterisk, or while nobody listened.
        self.is_lost = False
        # Q.850, known once it is gone.
        self.cause = 0

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return when the condition holds; it is asked after every change."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()

    async def wait_in_stasis(self) -> None:
        """Return once the channel is in our app. Raises CallerGoneError when it goes first."""
        await self.wait_until(lambda: self.is_in_stasis or self.is_gone)
        if self.is_gone:
            raise CallerGoneError(f"channel {self.channel_id} ended with cause {self.cause}")

    def apply(self, event: AriEvent) -> None:
        """Take in one event of this channel."""
        match event:
            case StasisStart():
                self.enter()
            case StasisEnd():
                # Asterisk ends our subscription with it, so ChannelDestroyed may not come.
                self.is_in_stasis = False
                self.is_gone = True
            case ChannelHangupRequest(cause=cause) if cause is not None:
                self.cause = cause
            case ChannelDestroyed(cause=cause):
                self.is_gone = True
                self.cause = cause
            case _:
                return
        self.changed.set()

    def enter(self) -> None:
        """The channel is in our app."""
        self.is_in_stasis = True
        self.changed.set()

    def lose(self) -> None:
        """The channel is no more, and nobody told."""
        self.is_lost = not self.is_gone
        self.apply(ChannelDestroyed(channel_id=self.channel_id, cause=0))


class AriListener:
    """Run `run()` in the service's task group; watch channels by their id."""

    def __init__(self, client: AriClient, app: str, take_unknown: Callable[[StasisStart], None]) -> None:
        self.app = app
        self.is_registered = False
        self.connections = 0
        self._client = client
        self._take_unknown = take_unknown
        self._watches: dict[str, ChannelWatch] = {}
        self._registration_changed = asyncio.Event()

    @contextmanager
    def watch(self, channel_id: str, changed: asyncio.Event | None = None) -> Iterator[ChannelWatch]:
        """Follow a channel. Begin before the channel exists, so that nothing is missed."""
        watch = self.add_watch(channel_id, changed)
        try:
            yield watch
        finally:
            self.drop_watch(channel_id)

    def add_watch(self, channel_id: str, changed: asyncio.Event | None = None) -> ChannelWatch:
        """Follow a channel until `drop_watch`."""
        watch = ChannelWatch(channel_id, changed)
        self._watches[channel_id] = watch
        return watch

    def find_watch(self, channel_id: str) -> ChannelWatch | None:
        """Return the watch of a channel."""
        return self._watches.get(channel_id)

    def drop_watch(self, channel_id: str) -> None:
        """Follow a channel no longer."""
        self._watches.pop(channel_id, None)

    async def wait_registered(self, *, is_registered: bool = True) -> None:
        """Return once Asterisk sends us events (or, with False, once it does not)."""
        while self.is_registered != is_registered:
            self._registration_changed.clear()
            await self._registration_changed.wait()

    async def wait_reconnected(self, connections: int) -> None:
        """Return once more connections than so many were made."""
        while self.connections <= connections:
            self._registration_changed.clear()
            await self._registration_changed.wait()

    async def run(self) -> None:
        """Stay registered for ever. Raises StasisAppReplacedError."""
        retry_s = FIRST_RETRY_S
        while True:
            if await self._serve_connection():
                retry_s = FIRST_RETRY_S
            self._set_registered(is_registered=False)
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            retry_s = min(2 * retry_s, LAST_RETRY_S)

    async def _serve_connection(self) -> bool:
        """Serve one connection to its end and return whether it was of use."""
        was_registered = False
        is_dead = False
        replaced: StasisAppReplacedError | None = None
        try:
            async with self._client.events(self.app) as socket, asyncio.TaskGroup() as group:
                reading = group.create_task(self._read(socket), name=f"ari:{self.app}:events")
                await self._synchronise()
                was_registered = True
                self.connections += 1
                self._set_registered(is_registered=True)
                checking = group.create_task(self._check_registration(), name=f"ari:{self.app}:check")
                await asyncio.wait({reading, checking}, return_when=asyncio.FIRST_COMPLETED)
                reading.cancel()
                checking.cancel()
        except* AriUnavailableError as unavailable:
            is_dead = any(isinstance(each, AriRefusedError) for each in unavailable.exceptions)
        except* StasisAppReplacedError as group_error:
            replaced = StasisAppReplacedError(str(group_error.exceptions[0]))
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            # A task group that fails and is cancelled at once raises its errors only (Python 3.11): seen as a worker
            # that never ended when Asterisk and it were stopped together.
            raise asyncio.CancelledError
        if replaced is not None:
            raise replaced
        if is_dead:
            self._lose_all()
        return was_registered

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                event = parse_event(message.data)
                if event is not None:
                    self._dispatch(event)
        raise AriUnavailableError(f"events of {self.app}: the websocket closed")

    async def _check_registration(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            if await self._client.application(self.app) is None:
                raise AriUnavailableError(f"{self.app} is registered no more")

    async def _synchronise(self) -> None:
        await self._client.listen_only_to_known_events(self.app)
        application = await self._client.application(self.app)
        ours = set(application.channel_ids) if application is not None else set()
        for watch in list(self._watches.values()):
            if watch.channel_id in ours:
                watch.enter()
            elif not await self._client.has_channel(watch.channel_id):
                watch.lose()
            elif watch.is_in_stasis:
                # A sibling took it for a dead worker's: ours to end it is no more.
                watch.apply(StasisEnd(channel_id=watch.channel_id))
        await self._take_missed_calls()

    def _lose_all(self) -> None:
        for watch in self._watches.values():
            watch.lose()

    async def _take_missed_calls(self) -> None:
        """Take callers who came while nobody listened: else they would hear ringing for ever."""
        application = await self._client.application(self.app)
        missed = set(application.channel_ids) - self._watches.keys() if application is not None else set()
        for channel in await self._client.channels() if missed else ():
            if channel.channel_id in missed and channel.state == RINGING:
                self._take_unknown(StasisStart(channel=channel, arguments=(INBOUND,)))

    def _dispatch(self, event: AriEvent) -> None:
        match event:
            case ApplicationReplaced():
                raise StasisAppReplacedError(f"another worker registered the Stasis app {self.app}")
            case StasisStart(channel=channel):
                watch = self._watches.get(channel.channel_id)
                if watch is None:
                    self._take_unknown(event)
                else:
                    watch.apply(event)
            case (
                StasisEnd(channel_id=channel_id)
                | ChannelDtmfReceived(channel_id=channel_id)
                | ChannelHangupRequest(channel_id=channel_id)
                | ChannelDestroyed(channel_id=channel_id)
                | ChannelStateChange(channel_id=channel_id)
            ):
                watch = self._watches.get(channel_id)
                if watch is not None:
                    watch.apply(event)

    def _set_registered(self, *, is_registered: bool) -> None:
        self.is_registered = is_registered
        self._registration_changed.set()
