"""Control of one call's channels through ARI: hang up, transfer to a human, notice the end.

A transfer: ring the human (the caller stays bridged with our media leg, so that hold audio can be played meanwhile),
let the human alone hear the whisper over a media leg of its own, then put the human where our media leg was.
Who hangs up first ends the other leg. Whatever fails leaves the caller with us and nothing behind.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from edge.call.ports import HangupCause, LegClosed, PlayoutReached, TransferOutcome
from edge.media.asterisk_websocket import AsteriskMediaLeg, MediaProtocolError, open_leg
from edge.media.playout_window import BYTES_PER_S
from edge.telephony.ari import AriClient, Origination
from edge.telephony.ari_listener import AriListener, ChannelWatch
from edge.telephony.errors import (
    AriRefusedError,
    AriRequestError,
    AriUnavailableError,
    CallerGoneError,
    ChannelGoneError,
    MediaLegError,
)

log = structlog.get_logger(__name__)

# Setting up takes 10 to 20 ms; a caller waits unanswered meanwhile.
SETUP_TIMEOUT_S = 5.0
CLEANUP_TIMEOUT_S = 5.0
# A channel that is being hung up leaves within milliseconds; Asterisk may refuse us before it tells.
LEAVES_WITHIN_S = 2.0
# The human's audio begins a little after the answer, and playing may start late on a loaded machine.
WHISPER_SLACK_S = 2.0
# Asterisk ends the ringing by itself a little after we should have.
RING_SLACK_S = 5
TELEPHONE_NUMBER = re.compile(r"\+?[0-9]{2,15}")
SIP_URI = re.compile(r"sips?:[A-Za-z0-9+*#._~%-]+@[A-Za-z0-9.\[\]:-]+(;[a-z]+=[A-Za-z0-9.]+)*")

_BUSY = {17, 21}
_NO_ANSWER = {18, 19}


@dataclass(frozen=True, slots=True, kw_only=True)
class Switchboard:
    """What every call of a worker shares."""

    client: AriClient
    listener: AriListener
    # Runs the readers of media legs.
    tasks: asyncio.TaskGroup
    # Humans are rung through this SIP peer.
    trunk: str

    def name_part(self, kind: str, call_id: str) -> str:
        """Id of a channel or bridge of ours: names the app, so that the app's next life finds it (`reconcile`)."""
        return f"{self.listener.app}.{kind}.{call_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaChannel:
    """A media leg that is in Stasis and in a bridge of its own."""

    leg: AsteriskMediaLeg
    channel_id: str
    bridge_id: str


@asynccontextmanager
async def open_media_channel(board: Switchboard, name: str) -> AsyncIterator[MediaChannel]:
    """Create bridge and media channel, connect the audio, and wait until the channel can be bridged.

    Bridging before the media channel's own StasisStart gives a silent call. Leaves nothing behind.
    """
    bridge_id = board.name_part("bridge", name)
    channel_id = board.name_part("media", name)
    async with AsyncExitStack() as stack:
        watch = stack.enter_context(board.listener.watch(channel_id))
        await board.client.create_bridge(bridge_id)
        stack.push_async_callback(release_bridge, board.client, bridge_id)
        connection_id = await board.client.create_media_channel(channel_id, board.listener.app)
        stack.push_async_callback(release_channel, board.client, channel_id)
        socket = board.client.media_socket(connection_id)
        leg = await stack.enter_async_context(open_leg(socket, board.tasks, name=name))
        await watch.wait_in_stasis()
        yield MediaChannel(leg=leg, channel_id=channel_id, bridge_id=bridge_id)


async def connect_caller(board: Switchboard, media: MediaChannel, caller: ChannelWatch) -> None:
    """Put the caller into the bridge of our audio, then answer. Raises CallerGoneError when the caller hangs up."""
    try:
        await board.client.add_to_bridge(media.bridge_id, caller.channel_id, media.channel_id)
        await board.client.answer(caller.channel_id)
    except ChannelGoneError as error:
        raise CallerGoneError(f"channel {caller.channel_id} ended before the answer") from error
    except AriRequestError as error:
        # Until a channel that hangs up has left Stasis, Asterisk says 500 and not 404 (ast_ari_channels_answer).
        if await _leaves(caller):
            raise CallerGoneError(f"channel {caller.channel_id} ended with the answer") from error
        raise


async def _leaves(watch: ChannelWatch) -> bool:
    try:
        async with asyncio.timeout(LEAVES_WITHIN_S):
            await watch.wait_until(lambda: watch.is_gone)
    except TimeoutError:
        return False
    return True


class AriCallControl:
    """CallControl of a call whose caller is bridged with `media`, or with `human` where they were connected before;
    `stack` ends what a transfer began."""

    def __init__(
        self,
        board: Switchboard,
        caller: ChannelWatch,
        caller_number: str,
        media: MediaChannel | None,
        stack: AsyncExitStack,
        *,
        human: ChannelWatch | None = None,
    ) -> None:
        self._board = board
        self._caller = caller
        self._caller_number = caller_number
        self._media = media
        self._stack = stack
        self._human = human
        self._transfers = 0

    @property
    def was_lost(self) -> bool:
        """Whether Asterisk ended with the caller's leg in it."""
        return self._caller.is_lost

    async def hang_up(self, cause: HangupCause) -> None:
        """End the caller's leg; does nothing when it is already gone."""
        if not self._caller.is_gone:
            await self._board.client.hang_up_if_there(self._caller.channel_id, int(cause))

    async def wait_until_ended(self) -> None:
        """Return when the caller's leg is gone (also after a completed transfer)."""
        await self._caller.wait_until(lambda: self._caller.is_gone or (self._human is not None and self._human.is_gone))
        if not self._caller.is_gone:
            await self.hang_up(HangupCause.NORMAL)

    async def transfer(self, destination: str, *, whisper: Sequence[bytes], timeout_s: float) -> TransferOutcome:
        """Ring `destination`, play `whisper` to the human alone, then connect both.

        `destination` is a SIP URI, or a number at the trunk. Returns once connected or failed; on failure the caller is
        still with us.
        """
        if SIP_URI.fullmatch(destination) is None and TELEPHONE_NUMBER.fullmatch(destination) is None:
            return TransferOutcome.UNREACHABLE
        self._transfers += 1
        name = f"{self._caller.channel_id}.{self._transfers}"
        human_id = self._board.name_part("human", name)
        async with AsyncExitStack() as stack:
            # The caller's changes wake whoever waits for the human, too: either may hang up first.
            human = stack.enter_context(self._board.listener.watch(human_id, self._caller.changed))
            stack.push_async_callback(release_watched, self._board.client, human)
            try:
                outcome = await self._ring(human, destination, timeout_s)
                if outcome is TransferOutcome.CONNECTED and whisper:
                    outcome = await self._whisper(human, name, b"".join(whisper))
                if outcome is TransferOutcome.CONNECTED:
                    await self._connect(human)
            except (ChannelGoneError, CallerGoneError):
                outcome = self._failure(human)
            except (AriRequestError, AriUnavailableError, MediaLegError, MediaProtocolError, TimeoutError):
                outcome = TransferOutcome.CALLER_GONE if self._caller.is_gone else TransferOutcome.UNREACHABLE
            if outcome is TransferOutcome.CONNECTED:
                self._human = human
                # Who hung up meanwhile was told of while nobody knew that it ends the call.
                self._caller.changed.set()
                self._stack.push_async_exit(stack.pop_all())
        return outcome

    async def _ring(self, human: ChannelWatch, destination: str, timeout_s: float) -> TransferOutcome:
        await self._board.client.originate(
            Origination(
                endpoint=_endpoint(self._board.trunk, destination),
                channel_id=human.channel_id,
                timeout_s=round(timeout_s) + RING_SLACK_S,
                caller_number=self._caller_number,
                app=self._board.listener.app,
                arguments=("human",),
            )
        )
        try:
            async with asyncio.timeout(timeout_s):
                await human.wait_until(lambda: human.is_in_stasis or human.is_gone or self._caller.is_gone)
        except TimeoutError:
            return TransferOutcome.NO_ANSWER
        if self._caller.is_gone or human.is_gone:
            return self._failure(human)
        return TransferOutcome.CONNECTED

    async def _whisper(self, human: ChannelWatch, name: str, pcm: bytes) -> TransferOutcome:
        async with (
            asyncio.timeout(SETUP_TIMEOUT_S + len(pcm) / BYTES_PER_S + WHISPER_SLACK_S),
            open_media_channel(self._board, name) as media,
        ):
            await self._board.client.add_to_bridge(media.bridge_id, human.channel_id, media.channel_id)
            await _first_of(
                human.wait_until(lambda: human.is_gone or self._caller.is_gone), _play_to_end(media.leg, pcm), name=name
            )
            if not human.is_gone:
                # Before the bridge is destroyed, which lets its channels go some time later.
                await self._board.client.remove_from_bridge(media.bridge_id, human.channel_id)
        if self._caller.is_gone or human.is_gone:
            return self._failure(human)
        return TransferOutcome.CONNECTED

    async def _connect(self, human: ChannelWatch) -> None:
        media = self._media
        assert media is not None, "caller and human are connected already"
        # One out before the other goes in: three in a bridge would make it a conference for a moment.
        await self._board.client.remove_from_bridge(media.bridge_id, media.channel_id)
        await self._board.client.add_to_bridge(media.bridge_id, human.channel_id)
        await self._board.client.hang_up_if_there(media.channel_id, int(HangupCause.NORMAL))

    def _failure(self, human: ChannelWatch) -> TransferOutcome:
        if self._caller.is_gone:
            return TransferOutcome.CALLER_GONE
        if human.cause in _BUSY:
            return TransferOutcome.BUSY
        return TransferOutcome.NO_ANSWER if human.cause in _NO_ANSWER else TransferOutcome.UNREACHABLE


def _endpoint(trunk: str, destination: str) -> str:
    """Asterisk's name for whom to ring: a number is dialled at the trunk, a URI goes where it says."""
    if TELEPHONE_NUMBER.fullmatch(destination) is not None:
        return f"PJSIP/{destination}@{trunk}"
    return f"PJSIP/{trunk}/{destination}"


async def _play_to_end(leg: AsteriskMediaLeg, pcm: bytes) -> None:
    await leg.send(pcm)
    await leg.mark("whisper")
    while True:
        event = await leg.receive()
        if isinstance(event, PlayoutReached | LegClosed):
            return


async def _first_of(*coroutines: Coroutine[object, object, None], name: str) -> None:
    """Return when the first is done; the others are cancelled."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each, name=f"{name}:{index}") for index, each in enumerate(coroutines)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()


async def release_channel(client: AriClient, channel_id: str, cause: HangupCause = HangupCause.NORMAL) -> None:
    """Hang up while cleaning up: bounded. What a stalled Asterisk keeps is ended later (edge/telephony/leftovers.py);
    where it is gone its channels are, too."""
    await _release(client.hang_up_if_there(channel_id, int(cause)), channel_id)


async def release_watched(client: AriClient, watch: ChannelWatch, cause: HangupCause = HangupCause.NORMAL) -> None:
    """Hang up while cleaning up, unless the channel has ended or another worker has it: who lost a call to a sibling
    must not end it there."""
    if not watch.is_gone:
        await release_channel(client, watch.channel_id, cause)


async def release_bridge(client: AriClient, bridge_id: str) -> None:
    """Destroy a bridge while cleaning up, as `release_channel`."""
    await _release(client.destroy_bridge_if_there(bridge_id), bridge_id)


async def _release(request: Coroutine[None, None, None], resource_id: str) -> None:
    try:
        async with asyncio.timeout(CLEANUP_TIMEOUT_S):
            await request
    except AriRefusedError:
        return
    except (AriUnavailableError, TimeoutError) as error:
        log.warning("not_released", id=resource_id, error=type(error).__name__)
