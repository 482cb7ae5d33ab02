"""Calls from the page: from an offer to the end of the call session. Knows no HTTP.

Tasks. `start` creates one task `call:<id>:web` per call in the group it was given; it answers the offer, waits for the
connection, lets the acceptor run the call, and always ends with CallEnded for the watchers. A call that fails is
logged and hung up; its siblings never notice.
"""

import asyncio
import hmac
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import structlog

from edge.call.observer import CallActivity, CallEnded, CallObserver, StateChanged
from edge.call.ports import CallControl, HangupCause, MediaLeg
from edge.conversation.dialogue import CallOutcome
from edge.media.webrtc import WebRtcCall, WebRtcSettings, answer_webrtc
from edge.web.errors import UnknownAgentError, UnknownCallError
from edge.web.live_events import LiveEvents

log = structlog.get_logger(__name__)

ENDED_CALLS_KEPT = 32  # so that a page whose events socket comes late still sees how its call ended


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentListing:
    """An agent as the page offers it."""

    name: str
    title: str
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebCall:
    """A connected caller, for the acceptor to run a call session with."""

    call_id: str
    agent: str
    leg: MediaLeg
    control: CallControl
    observer: CallObserver


class WebCallAcceptor(Protocol):
    """Who takes calls from the page; the worker, with its slots and call sessions."""

    def admit(self, agent: str) -> AbstractContextManager[object]:
        """Take a place for one call, free again when the context closes. Raises NoCapacityError. Never waits."""

    async def run(self, call: WebCall) -> None:
        """Carry the call until it is over; tells the observer about it, CallEnded included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedCall:
    """What the page gets: the answer, and the token that opens this call's events and nothing else."""

    call_id: str
    token: str
    answer_sdp: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    call_id: str
    agent: str
    token: str
    events: LiveEvents
    hang_up_wanted: asyncio.Event
    answered: asyncio.Future[str]


class WebCalls:
    """All calls of this process that came from the page."""

    def __init__(
        self,
        agents: Sequence[AgentListing],
        acceptor: WebCallAcceptor,
        tasks: asyncio.TaskGroup,
        settings: WebRtcSettings,
    ) -> None:
        self.agents = tuple(agents)
        self._acceptor = acceptor
        self._tasks = tasks
        self._settings = settings
        self._live: dict[str, _Entry] = {}
        self._ended: dict[str, _Entry] = {}
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, agent: str, offer_sdp: str) -> StartedCall:
        """Answer a caller. Raises UnknownAgentError, NoCapacityError or WebRtcOfferError."""
        if agent not in {listing.name for listing in self.agents}:
            raise UnknownAgentError(f"there is no agent {agent!r}")
        place = self._acceptor.admit(agent)
        entry = _Entry(
            call_id=f"web-{secrets.token_hex(8)}",
            agent=agent,
            token=secrets.token_urlsafe(24),
            events=LiveEvents(),
            hang_up_wanted=asyncio.Event(),
            answered=asyncio.get_running_loop().create_future(),
        )
        task = self._tasks.create_task(self._carry(place, offer_sdp, entry), name=f"call:{entry.call_id}:web")
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return StartedCall(call_id=entry.call_id, token=entry.token, answer_sdp=await entry.answered)

    def events(self, call_id: str, token: str) -> LiveEvents:
        """The live events of a call, for who holds its token. Raises UnknownCallError."""
        return self._entry(call_id, token).events

    def hang_up(self, call_id: str, token: str) -> None:
        """The caller pressed "hang up"."""
        self._entry(call_id, token).hang_up_wanted.set()

    def cancel_all(self) -> int:
        """End what is still running; returns how many calls that were."""
        for task in self._running:
            task.cancel("the node stops")
        return len(self._running)

    def _entry(self, call_id: str, token: str) -> _Entry:
        entry = self._live.get(call_id) or self._ended.get(call_id)
        if entry is None or not hmac.compare_digest(entry.token.encode(), token.encode()):
            raise UnknownCallError("there is no such call")
        return entry

    async def _carry(self, place: AbstractContextManager[object], offer_sdp: str, entry: _Entry) -> None:
        self._live[entry.call_id] = entry
        reason = "the call failed"
        try:
            with place, structlog.contextvars.bound_contextvars(call_id=entry.call_id):
                reason = await self._answer_and_run(offer_sdp, entry)
        except asyncio.CancelledError:
            reason = "the node stops"
            raise
        except Exception as error:  # noqa: BLE001 - the one broad handler: a failed call never ends its siblings
            self._fail(entry, error)
        finally:
            entry.answered.cancel()
            entry.events.observe(CallEnded(outcome=CallOutcome.FAILED, reason=reason))
            self._retire(entry)

    async def _answer_and_run(self, offer_sdp: str, entry: _Entry) -> str:
        async with answer_webrtc(offer_sdp, self._settings) as caller:
            entry.events.observe(StateChanged(activity=CallActivity.CONNECTING))
            entry.answered.set_result(caller.answer_sdp)
            if not await _is_connected(caller):
                return "your browser could not reach this node"
            await self._run_until_hung_up(caller, entry)
        return "the call ended"

    async def _run_until_hung_up(self, caller: WebRtcCall, entry: _Entry) -> None:
        call = WebCall(
            call_id=entry.call_id,
            agent=entry.agent,
            leg=caller.leg,
            control=caller.control,
            observer=entry.events,
        )
        async with asyncio.TaskGroup() as group:
            button = group.create_task(_obey_button(caller, entry), name=f"call:{entry.call_id}:hang-up")
            await self._acceptor.run(call)
            button.cancel()

    def _fail(self, entry: _Entry, error: Exception) -> None:
        if entry.answered.done():
            log.error("web_call_failed", call_id=entry.call_id, exc_info=error)
        else:
            entry.answered.set_exception(error)

    def _retire(self, entry: _Entry) -> None:
        del self._live[entry.call_id]
        self._ended[entry.call_id] = entry
        while len(self._ended) > ENDED_CALLS_KEPT:
            del self._ended[next(iter(self._ended))]


async def _is_connected(caller: WebRtcCall) -> bool:
    """Wait until audio flows or the leg gave up (it has a deadline of its own)."""
    async with asyncio.TaskGroup() as group:
        waits = {
            group.create_task(caller.connected.wait(), name="webrtc:connected"),
            group.create_task(caller.control.wait_until_ended(), name="webrtc:gone"),
        }
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
    return caller.connected.is_set()


async def _obey_button(caller: WebRtcCall, entry: _Entry) -> None:
    await entry.hang_up_wanted.wait()
    await caller.control.hang_up(HangupCause.NORMAL)
