"""What is kept of a call: records for the tenant's database, counts for the metrics. Never waits, never raises."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from contract.builtin_names import CONVERSATION_INTENTS
from edge.call.inbox import ToolFinished, TransferFinished
from edge.call.ports import HangupCause, TransferOutcome
from edge.call.resumption import RingBack
from edge.call.turn import FinishedTurn
from edge.call.watchdog import Alarm
from edge.conversation.dialogue import CallOutcome, Escalate
from edge.observability.metrics import CallMetrics
from edge.records.model import (
    Adopted,
    CallRecord,
    Record,
    ResumesRecord,
    ToolRunRecord,
    TransferRecord,
    Transport,
    TurnRecord,
)
from edge.records.subjects import SubjectId
from edge.rollups.cut import counted_intent

# What a call was about in which nothing was acted on.
NO_INTENT = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFacts:
    """What is known of a call when it is answered."""

    call_id: str
    tenant: str
    agent: str
    agent_version: str
    subject_id: SubjectId
    called_number: str
    transport: Transport


class CallHistory:
    """The record of one call as it grows. `keep` takes a record and returns at once."""

    def __init__(
        self, facts: CallFacts, keep: Callable[[Record], None], metrics: CallMetrics, now: Callable[[], float]
    ) -> None:
        self._facts = facts
        self._keep = keep
        self._metrics = metrics
        self._now = now
        self._answered = now()
        self._escalation: Escalate | None = None
        self._transfers = 0
        self._tools = 0
        self._intent = NO_INTENT
        self._record = CallRecord(
            call_id=facts.call_id,
            tenant=facts.tenant,
            agent=facts.agent,
            agent_version=facts.agent_version,
            subject_id=facts.subject_id,
            called_number=facts.called_number,
            transport=facts.transport,
            started_at=datetime.now(UTC),
        )

    def opened(self) -> None:
        """The call was answered."""
        self._answered = self._now()
        self._metrics.calls_active.inc()
        self._save(replace(self._record, answered_at=datetime.now(UTC)))

    def resumes(self, ring_back: RingBack, *, consent: str) -> None:
        """The caller was cut off from another call, and goes on in this one."""
        self._keep(
            ResumesRecord(
                call_id=self._facts.call_id,
                tenant=self._facts.tenant,
                resumes=ring_back.call_id,
                from_node=ring_back.node,
                consent=consent,
            )
        )

    @property
    def intent(self) -> str:
        """The last intent that was acted on."""
        return self._intent

    @property
    def first_audio_ms(self) -> int | None:
        """From answering to the agent's first audio, once that was sent."""
        return self._record.first_audio_ms

    def resumed(self, adopted: Adopted, *, intent: str, first_audio_ms: int | None) -> None:
        """The call goes on here that another worker had: its record, and the numbers of its rows."""
        call = adopted.call
        self._record = replace(
            self._record, started_at=call.started_at, answered_at=call.answered_at, first_audio_ms=first_audio_ms
        )
        self._answered = self.monotonic(call.answered_at or call.started_at)
        self._tools, self._transfers, self._intent = adopted.tool_runs, adopted.transfers, intent
        self._metrics.calls_active.inc()
        self._save(self._record)

    def turn(self, turn: FinishedTurn) -> None:
        """A turn is final."""
        citations = tuple(speech.citation for speech in turn.reply.speeches if speech.citation is not None)
        self._keep(
            TurnRecord(
                call_id=self._facts.call_id,
                tenant=self._facts.tenant,
                subject_id=self._facts.subject_id,
                seq=turn.seq,
                began_at=self.wall(turn.began),
                caller_text=turn.caller_text,
                agent_text=turn.agent_text,
                intent=turn.reply.understanding.intent,
                confidence=turn.reply.understanding.confidence,
                citations=citations,
                was_interrupted=turn.was_interrupted,
                timings=turn.timings,
                is_silent=turn.is_silent,
            )
        )
        self._metrics.observe_turn(turn.timings, is_silent=turn.is_silent)
        self._understood(turn)
        if turn.timings.recognise_queue_ms is not None:
            self._metrics.inference_wait.labels(model="asr").observe(turn.timings.recognise_queue_ms / 1000)

    def first_audio(self) -> None:
        """The agent's first audio was sent."""
        if self._record.first_audio_ms is None:
            first_audio_s = self._now() - self._answered
            self._metrics.first_audio.observe(first_audio_s)
            self._record = replace(self._record, first_audio_ms=round(1000 * first_audio_s))

    def barge_in(self, verdict: str) -> None:
        """A sound over our speech was judged."""
        self._metrics.barge_ins.labels(verdict=verdict).inc()

    def tool(self, finished: ToolFinished) -> None:
        """A tool answered."""
        self._tools += 1
        self._keep(
            ToolRunRecord(
                call_id=self._facts.call_id,
                tenant=self._facts.tenant,
                seq=self._tools,
                tool=finished.result.tool,
                began_at=datetime.now(UTC) - timedelta(seconds=finished.took_s),
                took_ms=round(1000 * finished.took_s),
                error=finished.result.error,
            )
        )

    def escalated(self, action: Escalate) -> None:
        """The caller is being handed over."""
        self._escalation = action

    def transferred(self, finished: TransferFinished) -> None:
        """An attempt to reach a human ended."""
        self._transfers += 1
        action = self._escalation
        self._keep(
            TransferRecord(
                call_id=self._facts.call_id,
                tenant=self._facts.tenant,
                seq=self._transfers,
                destination=action.destination if action is not None else "",
                reason=action.reason if action is not None else "",
                began_at=datetime.now(UTC) - timedelta(seconds=finished.took_s),
                took_ms=round(1000 * finished.took_s),
                outcome=finished.outcome,
            )
        )
        if finished.outcome is TransferOutcome.CONNECTED and action is not None:
            self._record = replace(self._record, reason=action.reason)

    def alarm(self, alarm: Alarm) -> None:
        """A watchdog moved the call on."""
        self._metrics.watchdog_firings.labels(watchdog=alarm.value).inc()

    def closed(self, outcome: CallOutcome, reason: str, cause: HangupCause) -> None:
        """The call is over."""
        self._metrics.calls_active.dec()
        self._metrics.observe_end(outcome=outcome.value, transport=self._facts.transport.value, intent=self._intent)
        # Why a call failed tells more than why it had been handed to a human, which its transfer tells.
        kept_reason = reason if outcome is CallOutcome.FAILED else self._record.reason or reason
        self._save(
            replace(
                self._record,
                ended_at=datetime.now(UTC),
                outcome=outcome,
                hangup_cause=cause,
                reason=kept_reason,
            )
        )

    def _understood(self, turn: FinishedTurn) -> None:
        understanding = turn.reply.understanding
        if turn.caller_text:
            self._metrics.confidence.labels(tenant=self._facts.tenant).observe(understanding.confidence)
        intent = counted_intent(understanding.intent)
        if intent and intent not in CONVERSATION_INTENTS:
            self._intent = intent

    def _save(self, record: CallRecord) -> None:
        self._record = record
        self._keep(record)

    def wall(self, monotonic_s: float) -> datetime:
        """The time of day of a moment on the monotonic clock."""
        return datetime.now(UTC) - timedelta(seconds=self._now() - monotonic_s)

    def monotonic(self, moment: datetime) -> float:
        """The moment on the monotonic clock of a time of day."""
        return self._now() - (datetime.now(UTC) - moment).total_seconds()
