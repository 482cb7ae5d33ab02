"""Takes calls in: finds the agent for a number, takes a slot before answering, builds the session and runs it.

A call that has no agent or no slot, or that comes to a cordoned node, is refused before it is answered. The same path
serves SIP and WebRTC; they differ in who carries the audio.

Whatever breaks in one call ends that call and no other: the worker's group of tasks never sees it.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import structlog
from prometheus_client.samples import Sample

from contract.errors import BoroughError
from edge.call import farewell
from edge.call.errors import NoCapacityError, NodeCordonedError, UnknownNumberError
from edge.call.history import CallFacts, CallHistory
from edge.call.hold import play_ringing
from edge.call.lifecycle import CallAction, CallEvent, CallLifecycle
from edge.call.observer import CallObserver, NobodyWatches
from edge.call.parts import CallParts
from edge.call.ports import CallControl, HangupCause, MediaLeg, Transcriber
from edge.call.preparation import Preparer
from edge.call.refusal import LawRefusals, NoLawRefusals
from edge.call.resumption import Resumption, RingBack
from edge.call.ring_back import Claimed, NoRingBacks, RingBacks, Unclaimed, Wanted
from edge.call.roster import Roster, ServedAgent, ServedRoster
from edge.call.saved_call import NoSessions, SavedCall, Sessions
from edge.call.session import HANG_UP_WITHIN_S, CallSession
from edge.call.slots import SlotLedger
from edge.conversation.agent import Agent
from edge.conversation.dialogue import CallOutcome
from edge.observability.logs import bind_call
from edge.observability.metrics import CallMetrics
from edge.records.model import CallRecord, Record, Transport
from edge.records.subjects import SubjectId, name_subject, names_somebody
from edge.speech.prepared import PreparedAudio
from edge.sync.cordon import Cordon
from edge.telephony.errors import CallerGoneError
from edge.telephony.inbound import InboundCall, InboundCalls
from edge.turn.activity import SpeechActivity
from edge.turn.vad import SileroDetector, SileroModel
from edge.web.calls import AgentListing, WebCall

log = structlog.get_logger(__name__)

# A caller on the page has no number.
WEB_CALLER = "anonymous@web"
NO_CAPACITY = "no_capacity"
CORDONED = "cordoned"
# Calls that are told to end have said so by then, and hung up.
ENDED_WITHIN_S = farewell.AT_MOST_S + farewell.GRACE_S + HANG_UP_WITHIN_S + 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls whom, over what."""

    call_id: str
    subject_id: SubjectId
    called_number: str
    transport: Transport
    leg: MediaLeg
    control: CallControl
    observer: CallObserver = field(default_factory=NobodyWatches)
    # Whether the region is told where the call stands: only a known number can ring back.
    may_ring_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reception:
    """What all calls of a worker share."""

    roster: ServedRoster
    transcriber: Transcriber
    audio: PreparedAudio
    vad: SileroModel
    slots: SlotLedger
    metrics: CallMetrics
    keep: Callable[[Record], None]
    subject_key: bytes
    save: Callable[[SavedCall], None] = field(default=lambda _: None)
    sessions: Sessions = field(default_factory=NoSessions)
    ring_backs: RingBacks = field(default_factory=NoRingBacks)
    cordon: Cordon = field(default_factory=Cordon)
    law: LawRefusals = field(default_factory=NoLawRefusals)
    running: dict[str, CallSession] = field(default_factory=dict)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    _setting_up: set[str] = field(default_factory=set)
    _fewer: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, inbound: InboundCalls, call: InboundCall) -> None:
        """Answer and carry a SIP call, or refuse it; while closing, leave it to the next worker.

        A call that cannot be set up is refused so that the front door asks another node.
        """
        try:
            await self._take(inbound, call)
        except BoroughError as error:
            log.warning("call_setup_failed", call_id=call.call_id, code=error.code, detail=str(error))
            self.metrics.calls_refused.labels(reason="setup_failed").inc()
            await _reject(inbound, call, HangupCause.NO_CIRCUIT)
        except Exception:
            log.exception("call_broke", call_id=call.call_id)
            self.metrics.calls_refused.labels(reason="broken").inc()
            await _reject(inbound, call, HangupCause.NO_CIRCUIT)

    async def _take(self, inbound: InboundCalls, call: InboundCall) -> None:
        lifecycle = CallLifecycle()
        if self.closing.is_set():
            await inbound.decline(call)
            return
        try:
            self._check_cordon()
            agent = self.roster.current.by_number(call.called_number)
            slot = self.slots.take(call.call_id)
        except UnknownNumberError:
            if not await self.law.tell(inbound, call):
                await self._refuse(inbound, call, lifecycle.advance(CallEvent.NUMBER_UNKNOWN), "unknown_number")
            return
        except NoCapacityError as error:
            await self._refuse(inbound, call, lifecycle.advance(CallEvent.SLOT_REFUSED), _reason(error))
            return
        with slot, self._is_set_up(call.call_id):
            lifecycle.advance(CallEvent.SLOT_TAKEN)
            await self._answer(inbound, call, agent, lifecycle)

    async def _answer(
        self, inbound: InboundCalls, call: InboundCall, agent: ServedAgent, lifecycle: CallLifecycle
    ) -> None:
        """Answer and carry a call that has a slot."""
        subject_id = name_subject(call.caller_number, self.subject_key)
        is_known = names_somebody(call.caller_number)
        found = await self._take_up(call.call_id, agent, subject_id) if is_known else None
        is_answered = False
        try:
            async with inbound.accept(call) as (leg, control):
                is_answered = True
                caller = Caller(
                    call_id=call.call_id,
                    subject_id=subject_id,
                    called_number=call.called_number,
                    transport=Transport.SIP,
                    leg=leg,
                    control=control,
                    may_ring_back=is_known,
                )
                claimed = await self._claim_late(found, leg, control) if isinstance(found, Unclaimed) else found
                await self._carry(agent, caller, lifecycle, ring_back=claimed.ring_back if claimed else None)
                self.metrics.frames_dropped.labels(direction="inbound").inc(leg.dropped_frames)
        except CallerGoneError:
            self.metrics.calls_refused.labels(reason="caller_gone").inc()
        finally:
            if isinstance(found, Claimed) and not is_answered:
                await self.ring_backs.give_back(found)

    async def _take_up(self, call_id: str, served: ServedAgent, subject_id: SubjectId) -> Claimed | Unclaimed | None:
        agent = served.conversation.agent
        if agent.policy.ring_back_s == 0:
            return None
        wanted = Wanted(
            call_id=call_id,
            tenant=agent.tenant,
            agent=agent.name,
            subject_id=subject_id,
            window_s=agent.policy.ring_back_s,
        )
        return await self.ring_backs.take_up(wanted)

    async def _claim_late(self, unclaimed: Unclaimed, leg: MediaLeg, control: CallControl) -> Claimed | None:
        """Let the caller hear it ring while the region finds a leader."""
        async with asyncio.TaskGroup() as ringing:
            tone = ringing.create_task(_ring(leg), name=f"call:{unclaimed.wanted.call_id}:ringing")
            claimed = await self.ring_backs.claim_late(unclaimed, control.wait_until_ended)
            tone.cancel()
        return claimed

    def admit(self, agent: str) -> AbstractContextManager[object]:  # noqa: ARG002 - tenants will have shares of slots
        """Take a slot for a call from the page (`edge.web.calls.WebCallAcceptor`). Raises NoCapacityError."""
        if self.closing.is_set():
            raise NoCapacityError("the node is stopping")
        try:
            self._check_cordon()
            return self.slots.take()
        except NoCapacityError as error:
            self.metrics.calls_refused.labels(reason=_reason(error)).inc()
            raise

    def resumed_elsewhere(self, call_id: str) -> None:
        """End a call that another one of the region went on with."""
        if (session := self.running.get(call_id)) is not None:
            session.resumed_elsewhere()

    async def drain(self, within_s: float) -> None:
        """Take no more calls and let running ones end."""
        self.closing.set()
        await self._wait_until(lambda: not self.running and not self._setting_up, within_s)

    async def end_calls(self, *, spares_sip: bool) -> int:
        """End running calls with a word to their callers, but those over SIP where a sibling goes on with them;
        returns how many."""
        ending = {
            call_id
            for call_id, session in self.running.items()
            if not (spares_sip and session.transport is Transport.SIP)
        }
        for call_id in ending:
            self.running[call_id].drain()
        await self._wait_until(lambda: ending.isdisjoint(self.running), ENDED_WITHIN_S)
        return len(ending)

    async def _wait_until(self, condition: Callable[[], bool], within_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not condition():
                    self._fewer.clear()
                    await self._fewer.wait()

    @contextlib.contextmanager
    def _is_set_up(self, call_id: str) -> Iterator[None]:
        self._setting_up.add(call_id)
        try:
            yield
        finally:
            self._setting_up.discard(call_id)
            self._fewer.set()

    async def run(self, call: WebCall) -> None:
        """Carry a call from the page. Raises UnknownNumberError when its agent has gone since it was offered."""
        agent = self.roster.current.by_name(call.agent)
        caller = Caller(
            call_id=call.call_id,
            subject_id=name_subject(WEB_CALLER, self.subject_key),
            called_number=call.agent,
            transport=Transport.WEBRTC,
            leg=call.leg,
            control=call.control,
            observer=call.observer,
        )
        lifecycle = CallLifecycle()
        lifecycle.advance(CallEvent.SLOT_TAKEN)
        await self._carry(agent, caller, lifecycle)

    async def go_on(
        self, served: ServedAgent, call: CallRecord, leg: MediaLeg, control: CallControl, resumption: Resumption
    ) -> None:
        """Carry a call that another worker had; its slot is held and its audio is back."""
        caller = Caller(
            call_id=call.call_id,
            subject_id=call.subject_id,
            called_number=call.called_number,
            transport=call.transport,
            leg=leg,
            control=control,
            may_ring_back=resumption.is_known and call.transport is Transport.SIP,
        )
        lifecycle = CallLifecycle()
        lifecycle.advance(CallEvent.SLOT_TAKEN)
        await self._carry(served, caller, lifecycle, resumption=resumption)

    async def _carry(
        self,
        served: ServedAgent,
        caller: Caller,
        lifecycle: CallLifecycle,
        *,
        resumption: Resumption | None = None,
        ring_back: RingBack | None = None,
    ) -> None:
        agent = served.conversation.agent
        bind_call(call_id=caller.call_id, tenant=agent.tenant)
        facts = CallFacts(
            call_id=caller.call_id,
            tenant=agent.tenant,
            agent=agent.name,
            agent_version=served.version,
            subject_id=caller.subject_id,
            called_number=caller.called_number,
            transport=caller.transport,
        )
        preparer = Preparer(
            transcriber=self.transcriber,
            responder=served.conversation,
            audio=self.audio,
            now=time.monotonic,
            voice=agent.voice,
            language=agent.language,
        )
        session = CallSession(
            CallParts(
                facts=facts,
                leg=caller.leg,
                control=caller.control,
                conversation=served.conversation,
                preparer=preparer,
                activity=SpeechActivity(SileroDetector(self.vad)),
                history=CallHistory(facts, self.keep, self.metrics, time.monotonic),
                observer=caller.observer,
                tools=served.tools,
                human=agent.human,
                filler=agent.phrases.filler[0],
                farewell=self.audio.clip(farewell.FAREWELL, voice=agent.voice) or b"",
                save=self._saving(agent, caller),
                resumption=resumption,
                ring_back=ring_back,
                now=time.monotonic,
            ),
            lifecycle,
        )
        self.running[caller.call_id] = session
        self._setting_up.discard(caller.call_id)
        try:
            outcome = await session.run()
            self.sessions.ended(caller.call_id, is_cut_off=outcome is CallOutcome.FAILED)
        finally:
            del self.running[caller.call_id]
            self._fewer.set()
        log.info("call_ended", outcome=outcome.value, transport=caller.transport.value)

    def _saving(self, agent: Agent, caller: Caller) -> Callable[[SavedCall], None]:
        """What takes the call's states: the records, and the region where the caller may ring back."""
        window_s = agent.policy.ring_back_s
        if not caller.may_ring_back or window_s == 0:
            return self.save

        def save(saved: SavedCall) -> None:
            self.save(saved)
            self.sessions.keep(saved, window_s=window_s)

        return save

    def _check_cordon(self) -> None:
        """Raises NodeCordonedError. Before anything else: another node has slots, and may know the number."""
        if self.cordon.is_up:
            raise NodeCordonedError("the node takes no new calls")

    async def _refuse(
        self, inbound: InboundCalls, call: InboundCall, actions: tuple[CallAction, ...], reason: str
    ) -> None:
        self.metrics.calls_refused.labels(reason=reason).inc()
        is_congested = CallAction.REFUSE_CONGESTION in actions
        await _reject(inbound, call, HangupCause.NO_CIRCUIT if is_congested else HangupCause.UNALLOCATED_NUMBER)


async def _reject(inbound: InboundCalls, call: InboundCall, cause: HangupCause) -> None:
    """Does nothing where the caller has gone; who cannot be reached any more is let go by the front door."""
    try:
        await inbound.reject(call, cause)
    except BoroughError as error:
        log.warning("call_not_refused", call_id=call.call_id, code=error.code, detail=str(error))


async def _ring(leg: MediaLeg) -> None:
    """A leg that breaks is found by the call itself."""
    with contextlib.suppress(BoroughError):
        await play_ringing(leg)


def _reason(error: NoCapacityError) -> str:
    return CORDONED if isinstance(error, NodeCordonedError) else NO_CAPACITY


def refused_for_want_of_a_slot(metrics: CallMetrics) -> int:
    """How many calls this worker has refused so; read by the second, not by the call."""
    samples = (sample for metric in metrics.calls_refused.collect() for sample in metric.samples)
    return sum(int(sample.value) for sample in samples if _is_want_of_a_slot(sample))


def _is_want_of_a_slot(sample: Sample) -> bool:
    return sample.name.endswith("_total") and sample.labels.get("reason") == NO_CAPACITY


def listings(roster: Roster) -> tuple[AgentListing, ...]:
    """The agents as the page offers them."""
    return tuple(
        AgentListing(
            name=served.listed_name,
            title=served.conversation.agent.title,
            description=served.conversation.agent.greeting,
        )
        for served in roster.agents
    )
