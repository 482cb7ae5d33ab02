"""Callers and human agents on the carrier's side, with audio of their own over the carrier's media websocket."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from edge.telephony.ari import AriClient, Origination
from edge.telephony.ari_events import StasisStart
from edge.telephony.ari_listener import AriListener, ChannelWatch
from edge.telephony.call_control import MediaChannel, Switchboard, open_media_channel
from tests.asterisk_pair import AsteriskPair

CALLER_NUMBER = "+15550123"
CALLED_NUMBER = "+15550199"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One caller: its channel, and its ear and mouth once connected."""

    watch: ChannelWatch
    channel_id: str


class Carrier:
    """Rings the node, and answers as a human agent."""

    def __init__(
        self,
        client: AriClient,
        pair: AsteriskPair,
        callers: Switchboard,
        human_board: Switchboard,
        humans: asyncio.Queue[ChannelWatch],
    ) -> None:
        self.client = client
        # Human agents that ring.
        self.humans = humans
        self._pair = pair
        self._callers = callers
        self._human_board = human_board

    @classmethod
    @asynccontextmanager
    async def open(cls, client: AriClient, pair: AsteriskPair) -> AsyncIterator["Carrier"]:
        humans: asyncio.Queue[ChannelWatch] = asyncio.Queue(16)

        def ignore(event: StasisStart) -> None:
            del event

        def take_human(event: StasisStart) -> None:
            if event.arguments == ("human",):
                watch = human_listener.add_watch(event.channel.channel_id)
                watch.apply(event)
                humans.put_nowait(watch)

        caller_listener = AriListener(client, "caller", ignore)
        human_listener = AriListener(client, "human", take_human)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(each.run()) for each in (caller_listener, human_listener)]
            await caller_listener.wait_registered()
            await human_listener.wait_registered()
            board = Switchboard(client=client, listener=caller_listener, tasks=tasks, trunk="node")
            human_board = Switchboard(client=client, listener=human_listener, tasks=tasks, trunk="node")
            try:
                yield cls(client, pair, board, human_board, humans)
            finally:
                for each in running:
                    each.cancel()

    @asynccontextmanager
    async def ring(
        self, number: str = CALLED_NUMBER, *, extension: str = "plain", variables: Mapping[str, str] | None = None
    ) -> AsyncIterator[Caller]:
        """Dial the node; the caller is hung up in the end."""
        channel_id = f"caller.{uuid.uuid4().hex}"
        with self._callers.listener.watch(channel_id) as watch:
            await self.client.originate(
                Origination(
                    endpoint=self._pair.node_number(number),
                    channel_id=channel_id,
                    timeout_s=20,
                    caller_number=CALLER_NUMBER,
                    context="caller",
                    extension=extension,
                    variables={"CALLER_ARGUMENT": channel_id, **(variables or {})},
                )
            )
            try:
                await self.client.subscribe("caller", channel_id)
                yield Caller(watch=watch, channel_id=channel_id)
            finally:
                await self.client.hang_up_if_there(channel_id, 16)

    @asynccontextmanager
    async def talk(self, caller: Caller) -> AsyncIterator[MediaChannel]:
        """The audio of a caller who was answered."""
        await caller.watch.wait_in_stasis()
        async with open_media_channel(self._callers, caller.channel_id) as media:
            await self.client.add_to_bridge(media.bridge_id, caller.channel_id, media.channel_id)
            yield media

    @asynccontextmanager
    async def pick_up(self, human: ChannelWatch) -> AsyncIterator[MediaChannel]:
        """Answer as a human agent."""
        async with open_media_channel(self._human_board, human.channel_id) as media:
            await self.client.add_to_bridge(media.bridge_id, human.channel_id, media.channel_id)
            await self.client.answer(human.channel_id)
            yield media
