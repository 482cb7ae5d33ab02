"""What a dead worker left in Asterisk, and taking it over.

Asterisk keeps a caller's channel in Stasis when its worker dies, in its bridge, with a media channel that has lost its
websocket. Moving the channel to our app changes who gets its events and nothing else: a caller who is connected with
a human hears no gap. Ids of channels and bridges name the app that made them, the kind, and the call
(`Switchboard.name_part`), so what belongs to a call is found whoever made it.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from edge.call.ports import HangupCause, LegClosed, LegEvent, MediaLeg
from edge.media.asterisk_websocket import MediaProtocolError
from edge.telephony.ari import AriClient, Bridge
from edge.telephony.ari_events import Channel
from edge.telephony.ari_listener import ChannelWatch
from edge.telephony.call_control import (
    SETUP_TIMEOUT_S,
    AriCallControl,
    MediaChannel,
    Switchboard,
    connect_caller,
    open_media_channel,
    release_bridge,
    release_channel,
    release_watched,
)
from edge.telephony.errors import (
    AriRefusedError,
    AriUnavailableError,
    CallerGoneError,
    ChannelGoneError,
    TelephonyError,
)

ADOPTED = "adopted"
HUMAN = "human"
KINDS = ("bridge", "media", HUMAN)
UP = "Up"
# A move takes a millisecond; long enough for a machine that has much else to do.
TAKEN_WITHIN_S = 1.0
# A stalled Asterisk is given up by its own watchdog sooner or later; nobody waits for it in silence longer than this.
ADOPT_WITHIN_S = 15.0
ADOPT_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class StrandedCall:
    """A caller whose worker died. `human_id` is who is connected with the caller; `channel_ids` and `bridge_ids` are
    what else was made for the call, to be cleared away."""

    call_id: str
    channel: Channel
    human_id: str | None
    channel_ids: tuple[str, ...]
    bridge_ids: tuple[str, ...]


class ClosedLeg:
    """The leg of a caller who talks with a human: nothing comes, what is sent goes nowhere."""

    async def receive(self) -> LegEvent:
        """Return that nothing follows."""
        return LegClosed(reason="with a human")

    async def send(self, pcm: bytes) -> None:
        """Forget it."""

    async def mark(self, name: str) -> None:
        """Never reached."""

    async def pause(self) -> None:
        """Nothing plays."""

    async def resume(self) -> None:
        """Nothing plays."""

    async def flush(self) -> None:
        """Nothing plays."""


async def find_stranded(client: AriClient, call_ids: Iterable[str]) -> dict[str, StrandedCall]:
    """Those of these calls whose caller is still on the line. Raises TelephonyError."""
    channels, bridges = await client.channels(), await client.bridges()
    by_id = {channel.channel_id: channel for channel in channels}
    return {call_id: _stranded(by_id, bridges, call_id) for call_id in call_ids if call_id in by_id}


def belongs_to(resource_id: str, call_id: str) -> bool:
    """Whether a channel or bridge was made for this call."""
    return resource_id != call_id and call_id in call_ids_of(resource_id)


def call_ids_of(resource_id: str) -> tuple[str, ...]:
    """The calls that a channel or bridge may have been made for, going by its id: names of parts follow that of the
    call after a dot, and Asterisk's own ids of callers have dots in them. A caller's channel is its call."""
    parts = resource_id.split(".")
    if len(parts) < 3 or parts[1] not in KINDS:
        return (resource_id,)
    return tuple(".".join(parts[2:end]) for end in range(3, len(parts) + 1))


def _stranded(channels: dict[str, Channel], bridges: list[Bridge], call_id: str) -> StrandedCall:
    ours = [each for each in channels if belongs_to(each, call_id)]
    together = {each for bridge in bridges if call_id in bridge.channel_ids for each in bridge.channel_ids}
    humans = [each for each in ours if each in together and each.split(".")[1] == HUMAN]
    return StrandedCall(
        call_id=call_id,
        channel=channels[call_id],
        human_id=humans[0] if humans and channels[humans[0]].state == UP else None,
        channel_ids=tuple(each for each in ours if each not in humans),
        bridge_ids=tuple(bridge.bridge_id for bridge in bridges if belongs_to(bridge.bridge_id, call_id)),
    )


@asynccontextmanager
async def adopt_channels(board: Switchboard, call: StrandedCall) -> AsyncIterator[tuple[MediaLeg, AriCallControl]]:
    """Make the caller ours and connect our audio, or keep the caller connected with the human. On leaving the caller is
    hung up and nothing stays behind.

    Raises CallerGoneError when the caller hangs up meanwhile, else TelephonyError or MediaProtocolError.
    """
    async with AsyncExitStack() as stack:
        changed = asyncio.Event()
        caller = stack.enter_context(board.listener.watch(call.channel.channel_id, changed))
        stack.push_async_callback(release_watched, board.client, caller)
        try:
            leg, human, media = await _adopt(board, call, caller, stack)
        except (TelephonyError, MediaProtocolError, TimeoutError) as error:
            # It is ours and nobody else's, so nobody else would end it.
            for channel_id in (call.channel.channel_id, call.human_id):
                if channel_id is not None:
                    await release_channel(board.client, channel_id, HangupCause.TEMPORARY_FAILURE)
            await clear_stranded(board.client, call)
            raise _reason(error, call) from error
        number = call.channel.caller_number
        yield leg, AriCallControl(board, caller, number, media, stack, human=human)


async def _adopt(
    board: Switchboard, call: StrandedCall, caller: ChannelWatch, stack: AsyncExitStack
) -> tuple[MediaLeg, ChannelWatch | None, MediaChannel | None]:
    """Take and connect the caller, if need be more than once: an Asterisk that is slow has not lost anybody yet."""
    until = time.monotonic() + ADOPT_WITHIN_S
    while True:
        async with AsyncExitStack() as attempt:
            try:
                async with asyncio.timeout(SETUP_TIMEOUT_S):
                    await _take(board, caller)
                    connected = await _connect(board, call, caller, attempt)
            except AriRefusedError:
                raise
            except (AriUnavailableError, TimeoutError):
                if caller.is_gone or time.monotonic() > until:
                    raise
            else:
                stack.push_async_exit(attempt.pop_all())
                return connected
        await asyncio.sleep(ADOPT_AGAIN_S)


def _reason(error: Exception, call: StrandedCall) -> Exception:
    match error:
        case ChannelGoneError():
            return CallerGoneError(f"the caller of {call.call_id} hung up")
        case TimeoutError():
            return TelephonyError(f"call {call.call_id} was not adopted in {SETUP_TIMEOUT_S:.0f} s")
        case _:
            return error


async def _take(board: Switchboard, watch: ChannelWatch) -> None:
    """Have the channel's events. A worker that was started again has those of its former life's channels already; a
    move to its own app would tell it first that they had left."""
    application = await board.client.application(board.listener.app)
    if application is not None and watch.channel_id in application.channel_ids:
        watch.is_in_stasis = True
        return
    await board.client.move(watch.channel_id, board.listener.app, (ADOPTED,))
    try:
        async with asyncio.timeout(TAKEN_WITHIN_S):
            await watch.wait_in_stasis()
    except TimeoutError:
        # Who hangs up while being moved leaves the old app and never enters ours: nobody tells us.
        if not await board.client.has_channel(watch.channel_id):
            raise CallerGoneError(f"channel {watch.channel_id} ended while it was moved") from None
        await watch.wait_in_stasis()


async def _connect(
    board: Switchboard, call: StrandedCall, caller: ChannelWatch, stack: AsyncExitStack
) -> tuple[MediaLeg, ChannelWatch | None, MediaChannel | None]:
    # A name of its own: a worker may adopt the calls of its own former life, or try again.
    name = f"{call.call_id}.{secrets.token_hex(3)}"
    if call.human_id is not None:
        human = stack.enter_context(board.listener.watch(call.human_id, caller.changed))
        await _take(board, human)
        await _join(board, name, stack, caller, human)
        # Only now: an attempt that fails must not end them.
        stack.push_async_callback(release_watched, board.client, human)
        await clear_stranded(board.client, call)
        return ClosedLeg(), human, None
    media = await stack.enter_async_context(open_media_channel(board, name))
    await connect_caller(board, media, caller)
    await clear_stranded(board.client, call)
    return media.leg, None, media


async def _join(
    board: Switchboard, name: str, stack: AsyncExitStack, caller: ChannelWatch, human: ChannelWatch
) -> None:
    """Put both into a bridge of ours: the old one is the dead worker's, and would go with what it left."""
    bridge_id = board.name_part("bridge", name)
    await board.client.create_bridge(bridge_id)
    stack.push_async_callback(release_bridge, board.client, bridge_id)
    await board.client.add_to_bridge(bridge_id, caller.channel_id, human.channel_id)


async def clear_stranded(client: AriClient, call: StrandedCall) -> None:
    """End what the dead worker made for a call; its caller, and a human who is with the caller, stay."""
    for channel_id in call.channel_ids:
        await release_channel(client, channel_id, HangupCause.NORMAL)
    for bridge_id in call.bridge_ids:
        await release_bridge(client, bridge_id)
