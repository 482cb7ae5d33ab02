"""Takes calls in: finds the agent for a number, takes a slot before answering, builds the session and runs it.

A call that has no agent or no slot, or that comes to a cordoned node, is refused before it is answered. The same path
serves SIP and WebRTC; they differ in who carries the audio.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import structlog
from prometheus_client.samples import Sample

from edge.call.errors import NoCapacityError, NodeCordonedError, UnknownNumberError
from edge.call.history import CallFacts, CallHistory
from edge.call.lifecycle import CallAction, CallEvent, CallLifecycle
from edge.call.observer import CallObserver, NobodyWatches
from edge.call.ports import CallControl, HangupCause, MediaLeg, Transcriber
from edge.call.preparation import Preparer
from edge.call.resumption import Resumption
from edge.call.roster import Roster, ServedAgent, ServedRoster
from edge.call.saved_call import SavedCall
from edge.call.session import CallParts, CallSession
from edge.call.slots import SlotLedger
from edge.observability.logs import bind_call
from edge.observability.metrics import CallMetrics
from edge.records.model import CallRecord, Record, Transport
from edge.records.subjects import name_subject
from edge.speech.prepared import PreparedAudio
from edge.sync.cordon import Cordon
from edge.telephony.errors import CallerGoneError, TelephonyError
from edge.telephony.inbound import InboundCall, InboundCalls
from edge.turn.activity import SpeechActivity
from edge.turn.vad import SileroDetector, SileroModel
from edge.web.calls import AgentListing, WebCall

log = structlog.get_logger(__name__)

# A caller on the page has no number.
WEB_CALLER = "anonymous@web"
NO_CAPACITY = "no_capacity"
CORDONED = "cordoned"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls whom, over what."""

    call_id: str
    caller_number: str
    called_number: str
    transport: Transport
    leg: MediaLeg
    control: CallControl
    observer: CallObserver = field(default_factory=NobodyWatches)


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
    cordon: Cordon = field(default_factory=Cordon)
    running: dict[str, CallSession] = field(default_factory=dict)
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    _idle: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, inbound: InboundCalls, call: InboundCall) -> None:
        """Answer and carry a SIP call, or refuse it; while closing, leave it to the next worker."""
        lifecycle = CallLifecycle()
        if self.closing.is_set():
            await inbound.decline(call)
            return
        try:
            self._check_cordon()
            agent = self.roster.current.by_number(call.called_number)
            slot = self.slots.take(call.call_id)
        except UnknownNumberError:
            await self._refuse(inbound, call, lifecycle.advance(CallEvent.NUMBER_UNKNOWN), "unknown_number")
            return
        except NoCapacityError as error:
            await self._refuse(inbound, call, lifecycle.advance(CallEvent.SLOT_REFUSED), _reason(error))
            return
        with slot:
            lifecycle.advance(CallEvent.SLOT_TAKEN)
            try:
                async with inbound.accept(call) as (leg, control):
                    caller = Caller(
                        call_id=call.call_id,
                        caller_number=call.caller_number,
                        called_number=call.called_number,
                        transport=Transport.SIP,
                        leg=leg,
                        control=control,
                    )
                    await self._carry(agent, caller, lifecycle)
                    self.metrics.frames_dropped.labels(direction="inbound").inc(leg.dropped_frames)
            except CallerGoneError:
                self.metrics.calls_refused.labels(reason="caller_gone").inc()
            except TelephonyError as error:
                log.warning("call_setup_failed", code=error.code, detail=str(error))
                self.metrics.calls_refused.labels(reason="setup_failed").inc()

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

    async def drain(self, within_s: float) -> int:
        """Take no more calls and let running ones end; returns how many had to be ended."""
        self.closing.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.running:
                    self._idle.clear()
                    await self._idle.wait()
        left = list(self.running.values())
        for session in left:
            session.drain()
        return len(left)

    async def run(self, call: WebCall) -> None:
        """Carry a call from the page. Raises UnknownNumberError when its agent has gone since it was offered."""
        agent = self.roster.current.by_name(call.agent)
        caller = Caller(
            call_id=call.call_id,
            caller_number=WEB_CALLER,
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
            caller_number="",
            called_number=call.called_number,
            transport=call.transport,
            leg=leg,
            control=control,
        )
        lifecycle = CallLifecycle()
        lifecycle.advance(CallEvent.SLOT_TAKEN)
        await self._carry(served, caller, lifecycle, resumption)

    async def _carry(
        self, served: ServedAgent, caller: Caller, lifecycle: CallLifecycle, resumption: Resumption | None = None
    ) -> None:
        agent = served.conversation.agent
        bind_call(call_id=caller.call_id, tenant=agent.tenant)
        facts = CallFacts(
            call_id=caller.call_id,
            tenant=agent.tenant,
            agent=agent.name,
            agent_version=served.version,
            subject_id=name_subject(caller.caller_number, self.subject_key)
            if resumption is None
            else resumption.adopted.call.subject_id,
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
                save=self.save,
                resumption=resumption,
                now=time.monotonic,
            ),
            lifecycle,
        )
        self.running[caller.call_id] = session
        try:
            outcome = await session.run()
        finally:
            del self.running[caller.call_id]
            if not self.running:
                self._idle.set()
        log.info("call_ended", outcome=outcome.value, transport=caller.transport.value)

    def _check_cordon(self) -> None:
        """Raises NodeCordonedError. Before anything else: another node has slots, and may know the number."""
        if self.cordon.is_up:
            raise NodeCordonedError("the node takes no new calls")

    async def _refuse(
        self, inbound: InboundCalls, call: InboundCall, actions: tuple[CallAction, ...], reason: str
    ) -> None:
        self.metrics.calls_refused.labels(reason=reason).inc()
        is_congested = CallAction.REFUSE_CONGESTION in actions
        await inbound.reject(call, HangupCause.NO_CIRCUIT if is_congested else HangupCause.UNALLOCATED_NUMBER)


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
