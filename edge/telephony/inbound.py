"""The calls that Asterisk offers to this worker, and taking them.

A call is taken without a silent second: bridge and media leg are made and joined with the caller's unanswered channel,
and only then is it answered, so that audio flows with the first packet after the answer.

Tasks: `ari:<app>` keeps the app registered; `ari:<app>:leftovers` ends what nobody has; `call:<id>:media` reads one
leg. A worker whose app name is taken by another ends with StasisAppReplacedError.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from edge.call.ports import HangupCause, MediaLeg
from edge.media.asterisk_websocket import AsteriskMediaLeg
from edge.telephony.adoption import StrandedCall, adopt_channels, call_ids_of, clear_stranded, find_stranded
from edge.telephony.ari import AriClient
from edge.telephony.ari_events import StasisStart
from edge.telephony.ari_listener import INBOUND, AriListener
from edge.telephony.call_control import (
    SETUP_TIMEOUT_S,
    AriCallControl,
    Switchboard,
    connect_caller,
    open_media_channel,
    release_channel,
    release_watched,
)
from edge.telephony.errors import AriUnavailableError, CallerGoneError, ChannelGoneError, TelephonyError
from edge.telephony.leftovers import LeftoverSweep, end_leftovers, find_leftovers

REGISTER_TIMEOUT_S = 15.0
# Calls that are offered and not looked at; more than a worker takes in a second means that it hangs.
MAX_OFFERED = 64
DEFAULT_TRUNK = "trunk"


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundCall:
    """A call that is offered, unanswered. `call_id` is unique across nodes and survives a move to another worker."""

    call_id: str
    channel_id: str
    caller_number: str
    called_number: str


class InboundCalls:
    """Async context manager around one worker's Stasis app. Raises AriUnavailableError when it cannot register.

    It holds a TaskGroup, so an error in its body comes out in an ExceptionGroup. `reconciles`: what a former life of
    this worker left in Asterisk is ended at once; False where it may be adopted first, and `reconcile` called then.
    `on_leftover` is told the kind ("channel", "bridge") of what nobody had any more and was ended.
    """

    def __init__(
        self,
        client: AriClient,
        *,
        app: str,
        trunk: str = DEFAULT_TRUNK,
        reconciles: bool = True,
        on_leftover: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.overflowed_calls = 0
        self._reconciles = reconciles
        self._client = client
        self._trunk = trunk
        self._offered: asyncio.Queue[InboundCall] = asyncio.Queue(MAX_OFFERED)
        self._listener = AriListener(client, app, self._take)
        self._sweep = LeftoverSweep(
            client=client, listener=self._listener, is_in_use=self._is_in_use, on_ended=on_leftover
        )
        self._stack = AsyncExitStack()
        self._board: Switchboard | None = None

    @property
    def is_registered(self) -> bool:
        """Whether Asterisk sends us calls now."""
        return self._listener.is_registered

    @property
    def connections(self) -> int:
        """How often the connection to Asterisk was made."""
        return self._listener.connections

    async def wait_registered(self, *, is_registered: bool = True) -> None:
        """Return once Asterisk sends us calls (or, with False, once it does not)."""
        await self._listener.wait_registered(is_registered=is_registered)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            listening = tasks.create_task(self._listener.run(), name=f"ari:{self._listener.app}")
            stack.callback(listening.cancel)
            self._board = Switchboard(client=self._client, listener=self._listener, tasks=tasks, trunk=self._trunk)
            if await self._is_ready_in_time():
                sweeping = tasks.create_task(self._sweep.run(), name=f"ari:{self._listener.app}:leftovers")
                stack.callback(sweeping.cancel)
                self._stack = stack.pop_all()
                return self
        # Raised outside of the group, so that it comes alone and not in an ExceptionGroup.
        raise AriUnavailableError(f"{self._listener.app} could not register in {REGISTER_TIMEOUT_S:.0f} s")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def incoming(self) -> AsyncIterator[InboundCall]:
        """Calls as they come; each must be given to `accept`, `decline` or `reject`."""
        while True:
            yield await self._offered.get()

    @asynccontextmanager
    async def accept(self, call: InboundCall) -> AsyncIterator[tuple[AsteriskMediaLeg, AriCallControl]]:
        """Answer the call with its audio connected; on leaving the caller is hung up and nothing stays behind.

        Raises CallerGoneError when the caller hangs up meanwhile, else TelephonyError or MediaProtocolError; a caller
        whose call could not be set up is let go with a cause that sends the call to another node.
        """
        board = self._switchboard()
        caller = self._listener.find_watch(call.channel_id)
        if caller is None:
            raise CallerGoneError(f"call {call.call_id} is not offered (any more)")
        async with AsyncExitStack() as stack:
            stack.callback(self._listener.drop_watch, call.channel_id)
            cause = HangupCause.NO_CIRCUIT
            stack.push_async_callback(lambda: release_watched(self._client, caller, cause))
            try:
                async with asyncio.timeout(SETUP_TIMEOUT_S):
                    media = await stack.enter_async_context(open_media_channel(board, call.call_id))
                    await connect_caller(board, media, caller)
                    cause = HangupCause.NORMAL
            except ChannelGoneError as error:
                raise CallerGoneError(f"the caller of {call.call_id} hung up before the answer") from error
            except TimeoutError as error:
                raise TelephonyError(f"call {call.call_id} was not set up in {SETUP_TIMEOUT_S:.0f} s") from error
            yield media.leg, AriCallControl(board, caller, call.caller_number, media, stack)

    async def find_stranded(self, call_ids: Iterable[str]) -> dict[str, StrandedCall]:
        """Those of these calls of dead workers whose caller is still on the line. Raises TelephonyError."""
        return await find_stranded(self._client, call_ids)

    def adopt(self, call: StrandedCall) -> AbstractAsyncContextManager[tuple[MediaLeg, AriCallControl]]:
        """Go on with a dead worker's call; like `accept`."""
        return adopt_channels(self._switchboard(), call)

    async def let_go(self, call: StrandedCall) -> None:
        """End what is left of a dead worker's call that nobody goes on with."""
        await release_channel(self._client, call.channel.channel_id, HangupCause.TEMPORARY_FAILURE)
        await clear_stranded(self._client, call)

    async def offer_unknown(self, app: str, known: Container[str]) -> None:
        """Have the callers of a dead worker's app offered to us whose calls nobody has begun: they still ring, or were
        answered a moment before. Raises TelephonyError."""
        application = await self._client.application(app)
        callers = () if application is None else application.channel_ids
        for channel_id in callers:
            # A human's or our audio's is part of a call, also one that an earlier worker made.
            is_part = call_ids_of(channel_id) != (channel_id,)
            if channel_id not in known and not is_part:
                try:
                    await self._client.move(channel_id, self._listener.app, (INBOUND,))
                except ChannelGoneError:
                    continue

    async def reconcile(self, spared: Container[str] = ()) -> None:
        """End what a previous life of this worker left in Asterisk, but for `spared` calls, which others have."""
        left = await find_leftovers(self._client, self._listener.app, lambda each: self._is_in_use(each, spared))
        await end_leftovers(self._client, left)

    def _is_in_use(self, resource_id: str, spared: Container[str] = ()) -> bool:
        names = (resource_id, *call_ids_of(resource_id))
        return any(name in spared or self._listener.find_watch(name) is not None for name in names)

    async def decline(self, call: InboundCall) -> None:
        """Give the call to the next worker; when none takes it the caller gets 503. Where Asterisk does not answer the
        caller is gone with it, or ended as a leftover."""
        self._listener.drop_watch(call.channel_id)
        try:
            await self._client.continue_in_dialplan(call.channel_id)
        except (ChannelGoneError, AriUnavailableError):
            return

    async def reject(self, call: InboundCall, cause: HangupCause) -> None:
        """Refuse the call for the whole node; as `decline` where Asterisk does not answer."""
        self._listener.drop_watch(call.channel_id)
        await release_channel(self._client, call.channel_id, cause)

    async def _is_ready_in_time(self) -> bool:
        try:
            async with asyncio.timeout(REGISTER_TIMEOUT_S):
                await self._listener.wait_registered()
                if self._reconciles:
                    await self.reconcile()
        except (TimeoutError, AriUnavailableError):
            return False
        return True

    def _switchboard(self) -> Switchboard:
        if self._board is None:
            raise RuntimeError("InboundCalls is used outside of its context")
        return self._board

    def _take(self, event: StasisStart) -> None:
        channel = event.channel
        if event.arguments[:1] != (INBOUND,):
            # A media or human channel whose call is over: `accept` hangs it up on its way out.
            return
        call = InboundCall(
            call_id=channel.channel_id,
            channel_id=channel.channel_id,
            caller_number=channel.caller_number,
            called_number=channel.extension,
        )
        try:
            self._offered.put_nowait(call)
        except asyncio.QueueFull:
            self.overflowed_calls += 1
            self._switchboard().tasks.create_task(self._decline_quietly(call), name=f"call:{call.call_id}:decline")
            return
        self._listener.add_watch(channel.channel_id).apply(event)

    async def _decline_quietly(self, call: InboundCall) -> None:
        try:
            await self.decline(call)
        except TelephonyError:
            # Asterisk is gone, and the call with it.
            return
