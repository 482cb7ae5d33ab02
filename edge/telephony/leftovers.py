"""Channels and bridges that are in Asterisk in our name and that nobody here has any more, and ending them.

They come about where Asterisk stalls just when we hang up, or ends our websocket and lives: a caller would sit in
silence, and in no slot. Each connection that is made again is a reason to look, and so is a minute. What is found is
looked for a second time before it is ended, since calls come and go while Asterisk is asked.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from edge.call.ports import HangupCause
from edge.telephony.ari import AriClient
from edge.telephony.ari_listener import AriListener
from edge.telephony.call_control import release_bridge, release_channel
from edge.telephony.errors import TelephonyError

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 60.0
# Setting up or ending a call takes milliseconds; its watch outlives its channels.
SURE_AFTER_S = 3.0
CHANNEL, BRIDGE = "channel", "bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """What nobody has."""

    channel_ids: frozenset[str]
    bridge_ids: frozenset[str]

    def still_in(self, later: "Leftovers") -> "Leftovers":
        """What was found both times."""
        return Leftovers(
            channel_ids=self.channel_ids & later.channel_ids, bridge_ids=self.bridge_ids & later.bridge_ids
        )


async def find_leftovers(client: AriClient, app: str, is_in_use: Callable[[str], bool]) -> Leftovers:
    """What is in the app, or in none and named after it, and is not in use. Raises TelephonyError.

    A human whom a sibling took over with the caller keeps the name that we gave, and is the sibling's.
    """
    prefix = f"{app}."
    owners = {channel: each.name for each in await client.applications() for channel in each.channel_ids}
    channel_ids = [each.channel_id for each in await client.channels()]
    bridge_ids = await client.bridge_ids()

    def is_ours(channel_id: str) -> bool:
        owner = owners.get(channel_id)
        return owner == app or (owner is None and channel_id.startswith(prefix))

    return Leftovers(
        channel_ids=frozenset(each for each in channel_ids if is_ours(each) and not is_in_use(each)),
        bridge_ids=frozenset(each for each in bridge_ids if each.startswith(prefix) and not is_in_use(each)),
    )


async def end_leftovers(client: AriClient, leftovers: Leftovers) -> None:
    """Hang up and destroy."""
    for channel_id in leftovers.channel_ids:
        await release_channel(client, channel_id, HangupCause.TEMPORARY_FAILURE)
    for bridge_id in leftovers.bridge_ids:
        await release_bridge(client, bridge_id)


@dataclass(slots=True, kw_only=True)
class LeftoverSweep:
    """`run` is a task for the life of the worker's app; `on_ended` is told the kind of each thing it ends."""

    client: AriClient
    listener: AriListener
    is_in_use: Callable[[str], bool]
    on_ended: Callable[[str], None]

    async def run(self) -> None:
        """Look for ever."""
        while True:
            connections = self.listener.connections
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self.listener.wait_reconnected(connections)
            # Asterisk that is away now is asked when it is back.
            with contextlib.suppress(TelephonyError):
                await self._sweep()

    async def _sweep(self) -> None:
        found = await self._find()
        if not found.channel_ids and not found.bridge_ids:
            return
        await asyncio.sleep(SURE_AFTER_S)
        left = found.still_in(await self._find())
        await end_leftovers(self.client, left)
        for kind, ids in ((CHANNEL, left.channel_ids), (BRIDGE, left.bridge_ids)):
            for each in sorted(ids):
                log.warning("leftover_ended", kind=kind, id=each)
                self.on_ended(kind)

    async def _find(self) -> Leftovers:
        return await find_leftovers(self.client, self.listener.app, self.is_in_use)
