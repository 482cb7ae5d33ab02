"""One call from greeting to end: lifecycle, turns, tools, transfer, record.

Everything that happens arrives in one inbox and is handled in order by one task (`call:<id>`); whatever takes time runs
in a task of the call's group and posts its result. So no state of a call is ever shared between tasks.

Tasks: `legs` pumps audio events in, `ended` waits for the hang-up, `tick` posts the time, `preparation`, `synthesis`,
`playout`, `tool`, `transfer` come and go. All end with the call.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta

import structlog

from edge.call.farewell import Farewell
from edge.call.history import NO_INTENT
from edge.call.inbox import (
    CallerGone,
    Drained,
    FarewellEnded,
    Happening,
    PlayoutEnded,
    PreparationFinished,
    ResumedElsewhere,
    Tick,
    ToolFinished,
    TransferFinished,
)
from edge.call.lifecycle import CallAction, CallEvent, CallLifecycle, CallState
from edge.call.observer import CallActivity, CallEnded, StateChanged
from edge.call.parts import CallParts
from edge.call.ports import (
    AudioReceived,
    DigitPressed,
    HangupCause,
    LegClosed,
    PlayoutReached,
    Priority,
    TransferOutcome,
)
from edge.call.resumption import Resumption, RingBack, first_words, saved_turn, welcome
from edge.call.saved_call import Phase, SavedAction, SavedCall
from edge.call.transfer import Transfer, technical_problem
from edge.call.turn import FinishedTurn
from edge.call.turns import TurnParts, TurnTaking
from edge.call.watchdog import Alarm, Watchdog
from edge.conversation.dialogue import (
    CallOutcome,
    DialogueState,
    EndCall,
    Escalate,
    Reply,
    RunTool,
)
from edge.records.model import Transport
from edge.records.rows import EPOCH, to_ms

log = structlog.get_logger(__name__)

TICK_S = 0.1
# Audio that is this late counts as silence, so that a caller never seems to speak for want of frames.
MISSING_AUDIO_S = 0.2
HANG_UP_WITHIN_S = 5.0
INBOX_LIMIT = 2_000


class CallSession:
    """Runs one answered call; `run` returns how it ended."""

    def __init__(self, parts: CallParts, lifecycle: CallLifecycle) -> None:
        """`lifecycle` is CONNECTING: a slot is held and the audio path is there."""
        self._parts = parts
        self._lifecycle = lifecycle
        self._inbox: asyncio.Queue[Happening] = asyncio.Queue(INBOX_LIMIT)
        self._watchdog = Watchdog(parts.watchdog, started=parts.now())
        self._silences = 0
        self._outcome = CallOutcome.CONTAINED
        self._reason = "caller_hung_up"
        self._waiting_reply: Reply | None = None
        self._awaited: Escalate | RunTool | None = None
        self._tool_key = ""
        self._has_moved = False
        # While it is said the call is about to end.
        self._farewell: Farewell | None = None
        self._cause = HangupCause.NORMAL

    async def run(self) -> CallOutcome:
        """Greet, converse, end. Whatever breaks ends this call and no other; the record is closed in any case."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                self._turns = TurnTaking(self._turn_parts(tasks))
                for work, name in ((self._pump(), "legs"), (self._wait_ended(), "ended"), (self._tick(), "tick")):
                    self._spawn(work, name)
                if self._parts.resumption is None:
                    self._parts.history.opened()
                    self._advance(CallEvent.ANSWERED)
                else:
                    self._take_over(self._parts.resumption)
                self._save_if_moved()
                await self._handle_inbox()
                self._stop()
        except* _CallOverError:
            pass
        except* Exception as group:
            log.exception("call_failed")
            self._outcome, self._reason = CallOutcome.FAILED, type(group.exceptions[0]).__name__
            self._cause = HangupCause.TEMPORARY_FAILURE
        finally:
            await self._close()
        return self._outcome

    @property
    def transport(self) -> Transport:
        """What carries the caller's audio."""
        return self._parts.facts.transport

    def drain(self) -> None:
        """The node stops: end this call, once the caller has heard the farewell."""
        self._post(Drained())

    def resumed_elsewhere(self) -> None:
        """Another call of the caller goes on with this one: end it without a word."""
        self._post(ResumedElsewhere())

    def _turn_parts(self, tasks: asyncio.TaskGroup) -> TurnParts:
        parts = self._parts
        return TurnParts(
            leg=parts.leg,
            activity=parts.activity,
            preparer=parts.preparer,
            history=parts.conversation,
            listener=self,
            observer=parts.observer,
            watchdog=self._watchdog,
            tasks=tasks,
            post=self._post,
            now=parts.now,
            tenant=parts.facts.tenant,
            call_id=parts.facts.call_id,
        )

    # For whoever may have to go on.

    def moved(self) -> None:
        """Have the state saved once what happened has been handled."""
        self._has_moved = True

    def _save_if_moved(self) -> None:
        # Who is cut off goes on where they stood before the farewell.
        if not self._has_moved or self._farewell is not None or self._lifecycle.state is CallState.ENDED:
            return
        self._has_moved = False
        parts, turns = self._parts, self._turns
        saved = SavedCall(
            call_id=parts.facts.call_id,
            tenant=parts.facts.tenant,
            agent=parts.facts.agent,
            subject_id=parts.facts.subject_id,
            phase=_PHASES.get(self._lifecycle.state, Phase.TALKING),
            dialogue=turns.state,
            next_seq=turns.next_seq,
            silences=self._silences,
            intent=parts.history.intent,
            first_audio_ms=parts.history.first_audio_ms,
            turn=saved_turn(turns.turn, lambda moment: to_ms(parts.history.wall(moment))),
            action=SavedAction.of(self._awaited),
            tool_key=self._tool_key,
        )
        parts.save(saved)

    # Going on with another worker's call.

    def _take_over(self, resumption: Resumption) -> None:
        """Go on where the call stood: with the human, or with a word to the caller."""
        parts, saved = self._parts, resumption.current
        intent, first_audio_ms = (NO_INTENT, None) if saved is None else (saved.intent, saved.first_audio_ms)
        parts.history.resumed(resumption.adopted, intent=intent, first_audio_ms=first_audio_ms)
        if saved is not None:
            self._silences = saved.silences
            self._turns.restore(
                parts.conversation.restored(saved.dialogue), max(saved.next_seq, resumption.adopted.next_seq)
            )
        else:
            self._turns.restore(DialogueState(), resumption.adopted.next_seq)
        if resumption.is_with_human:
            self._awaited = None if saved is None or saved.action is None else saved.action.escalate
            self._stay_with_human(resumption.unrecorded_transfer)
        else:
            self._advance(CallEvent.ADOPTED)

    def _stay_with_human(self, transfer: Escalate | None) -> None:
        if transfer is not None:
            self._parts.history.escalated(transfer)
            self._parts.history.transferred(TransferFinished(outcome=TransferOutcome.CONNECTED, took_s=0.0))
        self._finish(CallOutcome.ESCALATED, "transferred")
        self._advance(CallEvent.ADOPTED_WITH_HUMAN)
        self.moved()

    def _resume(self) -> None:
        """Say that we were cut off, and go on."""
        resumption = self._parts.resumption
        saved = resumption.current if resumption is not None else None
        if saved is not None:
            # A human who has left since is not rung again.
            action = None if saved.phase is Phase.WITH_HUMAN else saved.action
            saved = replace(saved, dialogue=self._turns.state, action=action)
        words = first_words(self._parts.conversation, saved)
        if words.turn is None:
            self._say(words.reply, is_protected=words.is_protected)
        else:
            began = EPOCH + timedelta(milliseconds=words.turn.began_ms)
            self._turns.say_again(
                words.reply,
                caller_text=words.turn.caller_text,
                seq=words.turn.seq,
                began=self._parts.history.monotonic(began),
                is_protected=words.is_protected,
            )
        if words.tool is not None and saved is not None:
            self._run(words.tool, saved.tool_key)

    def _greet(self) -> None:
        if self._parts.ring_back is not None:
            self._welcome_back(self._parts.ring_back)
            return
        opening = self._parts.conversation.opening()
        # A partially heard prompt is not consent.
        self._say(opening, is_protected=opening.state.pending is not None)

    def _welcome_back(self, ring_back: RingBack) -> None:
        """Go on with the call that the caller was cut off from, in this new one."""
        words, consent = welcome(self._parts.conversation, ring_back)
        self._parts.history.resumes(ring_back, consent=consent)
        self._turns.restore(words.reply.state, 0)
        self._say(words.reply, is_protected=words.is_protected)
        if words.tool is not None:
            self._run(words.tool, ring_back.saved.tool_key)

    # What comes in.

    def _post(self, happening: Happening) -> None:
        with contextlib.suppress(asyncio.QueueFull):
            self._inbox.put_nowait(happening)

    async def _pump(self) -> None:
        while True:
            event = await self._parts.leg.receive()
            await self._inbox.put(event)
            if isinstance(event, LegClosed):
                return

    async def _wait_ended(self) -> None:
        await self._parts.control.wait_until_ended()
        self._post(CallerGone())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self._post(Tick())

    async def _handle_inbox(self) -> None:
        while self._lifecycle.state is not CallState.ENDED:
            happening = await self._inbox.get()
            if self._farewell is None:
                self._handle(happening)
            else:
                self._handle_last(happening, self._farewell)
            self._save_if_moved()

    def _handle(self, happening: Happening) -> None:  # noqa: C901, PLR0912 - one case an event
        turns = self._turns
        match happening:
            case AudioReceived(pcm=pcm):
                self._on_audio(pcm)
            case PlayoutReached(mark=mark):
                turns.voice.reached(mark)
            case DigitPressed(digit=digit):
                turns.on_digit(digit)
            case PreparationFinished():
                if happening.error is not None:
                    log.warning("preparation_failed", error=type(happening.error).__name__, detail=str(happening.error))
                turns.on_preparation(happening)
            case PlayoutEnded():
                if happening.error is not None:
                    log.warning("playout_failed", error=type(happening.error).__name__, detail=str(happening.error))
                turns.on_playout_ended(happening)
            case ToolFinished():
                self._on_tool(happening)
            case TransferFinished():
                self._on_transfer(happening)
            case Tick():
                self._on_tick()
            case CallerGone():
                self._on_gone()
            case LegClosed():
                # A transfer takes the leg away, a hang-up is told by CallerGone, anything else is a watchdog's matter.
                log.debug("leg_closed", reason=happening.reason)
            case Drained():
                self._on_drained()
            case ResumedElsewhere():
                self._finish(CallOutcome.FAILED, "resumed_elsewhere")
                self._fail()
            case FarewellEnded():
                pass

    def _handle_last(self, happening: Happening, farewell: Farewell) -> None:
        """While the farewell is said nothing else is; what was under way is put on record."""
        match happening:
            case AudioReceived():
                self._watchdog.last_frame = self._parts.now()
            case PlayoutReached(mark=mark):
                farewell.reached(mark)
            case ToolFinished():
                self._parts.history.tool(happening)
            case TransferFinished():
                self._parts.history.transferred(happening)
            case CallerGone():
                self._advance(CallEvent.CALLER_HUNG_UP)
            case FarewellEnded() | ResumedElsewhere():
                self._fail()
            case _:
                pass

    def _on_audio(self, pcm: bytes) -> None:
        if self._lifecycle.state is CallState.TALKING:
            self._turns.on_audio(pcm)
        else:
            self._watchdog.last_frame = self._parts.now()

    def _on_tick(self) -> None:
        now = self._parts.now()
        if self._lifecycle.state is CallState.WITH_HUMAN:
            return
        missing_s = now - self._watchdog.last_frame
        if missing_s > MISSING_AUDIO_S:
            self._turns.on_missing_audio(missing_s)
        if self._lifecycle.state is CallState.TALKING:
            self._turns.on_tick()
        self._alarm(self._watchdog.due(now))

    def _alarm(self, alarm: Alarm | None) -> None:
        if alarm is None:
            return
        self._parts.history.alarm(alarm)
        match alarm:
            case Alarm.CALLER_SILENT if self._lifecycle.state is CallState.TALKING:
                self._silences += 1
                self._say(self._parts.conversation.no_input(self._turns.state, self._silences))
            case Alarm.FILLER_DUE:
                self._turns.say_filler(self._parts.filler)
            case Alarm.TURN_STUCK if self._lifecycle.state is CallState.TALKING:
                self._say(technical_problem(self._turns.state, human=self._parts.human), is_protected=True)
            case Alarm.AUDIO_DEAD | Alarm.CALL_TOO_LONG:
                self._finish(CallOutcome.FAILED, alarm.value)
                self._fail()
            case _:
                pass

    def _on_gone(self) -> None:
        if self._lifecycle.state is CallState.ENDED:
            return
        if self._parts.control.was_lost:
            self._finish(CallOutcome.FAILED, "leg_lost")
            self._fail()
            return
        if self._lifecycle.state is CallState.WITH_HUMAN:
            self._advance(CallEvent.HUMAN_FINISHED)
            return
        if self._turns.voice.is_speaking and self._lifecycle.state is CallState.TALKING:
            self._outcome = CallOutcome.ABANDONED
        self._advance(CallEvent.CALLER_HUNG_UP)

    def _on_drained(self) -> None:
        self._finish(CallOutcome.FAILED, "node_stopped")
        if not self._parts.farewell or self._lifecycle.state not in (CallState.TALKING, CallState.TRANSFERRING):
            self._fail()
            return
        self._farewell = Farewell(pcm=self._parts.farewell)
        self._turns.end()
        self._spawn(self._say_farewell(self._farewell), "farewell")

    async def _say_farewell(self, farewell: Farewell) -> None:
        await farewell.say(self._parts.leg, self._turns.voice.silence())
        self._post(FarewellEnded())

    # What turn-taking tells (TurnListener).

    def turn_committed(self, reply: Reply) -> None:
        """Start the tool that the reply waits for while its filler is being said."""
        self._silences = 0
        if isinstance(reply.action, RunTool):
            history = self._turns.state.history
            self._run(reply.action, f"{self._parts.facts.call_id}:{len(history)}:{reply.action.tool}")

    def turn_ended(self, turn: FinishedTurn) -> None:
        """Put the turn on record."""
        self._parts.history.turn(turn)

    def reply_heard(self, reply: Reply) -> None:
        """Do what the reply promised."""
        if self._waiting_reply is not None:
            following, self._waiting_reply = self._waiting_reply, None
            self._say(following)
            return
        match reply.action:
            case Escalate():
                self._begin_transfer(reply.action)
            case EndCall(reason=reason):
                self._advance(CallEvent.GOODBYE_STARTED)
                self._reason = reason
                self._advance(CallEvent.GOODBYE_HEARD)
            case _:
                pass

    def audio_started(self) -> None:
        """Time the first audio of the call."""
        self._parts.history.first_audio()

    def barge_in_judged(self, finding: str) -> None:
        """Count what callers' sounds were taken for."""
        self._parts.history.barge_in(finding)

    # Tools and transfers.

    def _run(self, action: RunTool, key: str) -> None:
        self._awaited, self._tool_key = action, key
        self.moved()
        self._spawn(self._run_tool(action, key), "tool")

    async def _run_tool(self, action: RunTool, key: str) -> None:
        began = self._parts.now()
        result = await self._parts.tools.run(action, key=key)
        took_s = self._parts.now() - began
        reply = await self._parts.conversation.after_tool(self._turns.state, result)
        self._post(ToolFinished(result=result, took_s=took_s, reply=reply))

    def _on_tool(self, finished: ToolFinished) -> None:
        self._parts.history.tool(finished)
        self._awaited = None
        # The filler is heard to its end first, and a caller who speaks is answered first.
        if self._turns.voice.is_speaking or not self._say(finished.reply):
            self._waiting_reply = finished.reply

    def _begin_transfer(self, action: Escalate) -> None:
        self._advance(CallEvent.TRANSFER_STARTED)
        self._parts.observer.observe(StateChanged(activity=CallActivity.TRANSFERRING))
        self._parts.history.escalated(action)
        self._awaited = action
        self.moved()
        self._spawn(self._transfer(action), "transfer")

    async def _transfer(self, action: Escalate) -> None:
        parts = self._parts
        transfer = Transfer(action=action, leg=parts.leg, control=parts.control, preparer=parts.preparer, now=parts.now)
        self._post(await transfer.run(self._turns.purpose(Priority.LIVE)))

    def _on_transfer(self, finished: TransferFinished) -> None:
        self._parts.history.transferred(finished)
        self.moved()
        match finished.outcome:
            case TransferOutcome.CONNECTED:
                # Its action stays saved: who is cut off from the human and rings back is put through again.
                self._finish(CallOutcome.ESCALATED, "transferred")
                self._advance(CallEvent.TRANSFER_CONNECTED)
            case TransferOutcome.CALLER_GONE:
                self._on_gone()
            case _:
                self._awaited = None
                self._advance(CallEvent.TRANSFER_FAILED)
                self._say(self._parts.conversation.after_transfer_failed(self._turns.state, finished.outcome))

    def _say(self, reply: Reply, *, is_protected: bool = False) -> bool:
        if self._lifecycle.state is not CallState.TALKING:
            return False
        is_final = isinstance(reply.action, Escalate | EndCall)
        return self._turns.say(reply, is_protected=is_protected or is_final)

    # The end.

    def _advance(self, event: CallEvent) -> None:
        for action in self._lifecycle.advance(event):
            match action:
                case CallAction.GREET:
                    self._greet()
                case CallAction.RESUME:
                    self._resume()
                case CallAction.HANG_UP:
                    self._hang_up(HangupCause.NORMAL)
                case CallAction.HANG_UP_FAILED:
                    self._hang_up(HangupCause.TEMPORARY_FAILURE)
                case _:
                    pass

    def _hang_up(self, cause: HangupCause) -> None:
        self._cause = cause

    def _fail(self) -> None:
        if self._lifecycle.state is not CallState.ENDED:
            self._advance(CallEvent.FAILED)

    def _finish(self, outcome: CallOutcome, reason: str) -> None:
        self._outcome, self._reason = outcome, reason

    async def _close(self) -> None:
        """Count the last turn, hang up what is still there, close the record."""
        self._turns.end()
        parts = self._parts
        try:
            async with asyncio.timeout(HANG_UP_WITHIN_S):
                await parts.control.hang_up(self._cause)
        except Exception:
            log.warning("hang_up_failed", exc_info=True)
        parts.history.closed(self._outcome, self._reason, self._cause)
        parts.observer.observe(CallEnded(outcome=self._outcome, reason=self._reason))

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> None:
        self._tasks.create_task(work, name=f"call:{self._parts.facts.call_id}:{name}")

    @staticmethod
    def _stop() -> None:
        raise _CallOverError


_PHASES = {CallState.TRANSFERRING: Phase.TRANSFERRING, CallState.WITH_HUMAN: Phase.WITH_HUMAN}


class _CallOverError(Exception):
    """Ends the tasks of a call that is over."""
