"""Carries out the turn-taking of one call: frames, digits and finished work in; speculation, playout and turns out.

Theory of operation. `edge.turn.floor` decides; this module observes and obeys. Three things are held while a turn is
made: the *preparation* (a cancellable task that recognises, understands and synthesises), the *turn* (a committed
preparation whose reply is being spoken) and the dialogue state *before* it, so that a turn which was committed too
early can be taken back whole. A turn counts (`TurnListener.turn_ended`) once it can no longer be taken back: its reply
was heard, cut short by the caller, or the call ended.

Not known here: channels, records, tools, transfers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field

from edge.call.inbox import Happening, PlayoutEnded, PreparationFinished
from edge.call.observer import AgentSaid, CallActivity, CallerSaid, CallObserver, StateChanged, TurnTimed
from edge.call.ports import SAMPLE_RATE_HZ, MediaLeg, Priority, Purpose
from edge.call.preparation import Prepared, Preparer
from edge.call.turn import FinishedTurn, HistoryKeeper, Turn, TurnListener, UtteranceTimes
from edge.call.voice import AgentVoice
from edge.call.watchdog import Watchdog
from edge.conversation.dialogue import DialogueState, EndCall, Escalate, Reply, Speech, SpeechSource
from edge.turn.activity import ActivityEvent, ActivityState, SpeechActivity, SpeechPaused, SpeechResumed, SpeechStarted
from edge.turn.barge_in import AgentSpeech, BargeIn, BargeInState, Evidence, Finding, Verdict
from edge.turn.endpointing import Endpointer
from edge.turn.floor import Floor, FloorAction, FloorEvent, FloorState
from edge.turn.level import SILENCE_DBFS, TYPICAL_PLAYOUT_DBFS, EchoEstimate

# A preparation that failed (inference restarts in 2-4 s) is tried again after this long.
RETRY_AFTER_S = 0.3
PREPARATION_BUDGET_S = 3.0
# Speech that cannot be synthesised is tried again for six seconds: the service is back in three.
PLAYOUT_TRIES = 20
# People leave up to 2 s between groups of digits they key in.
DIGITS_DONE_AFTER_S = 2.5
END_OF_DIGITS = "#"
# "All right ... thank you so much": a goodbye or a transfer cannot be taken back, so it waits for a longer silence.
FINAL_SILENCE_S = 0.45
# Below this an echo of ours is nothing that could be taken for words.
AUDIBLE_ECHO_DB = -40.0
# Words of a sound over our speech are waited for this long; recognition takes 0.1 s, and 0.3 s on a busy node.
LONGEST_HOLD_S = 1.0
# Nobody says more in one turn; music and television do.
LONGEST_UTTERANCE_S = 25.0
SAMPLE_BYTES = 2

_ACTIVITIES = {
    FloorState.THINKING: CallActivity.THINKING,
    FloorState.AGENT_SPEAKING: CallActivity.SPEAKING,
    FloorState.PROTECTED: CallActivity.SPEAKING,
    FloorState.PROTECTED_OVERLAP: CallActivity.SPEAKING,
}
_ARBITRATING = (FloorState.ARBITRATING, FloorState.ARBITRATING_PAUSED)
_CALLERS_FLOOR = (FloorState.CALLER_SPEAKING, FloorState.CALLER_PAUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnParts:
    """What the turn-taking of a call works with."""

    leg: MediaLeg
    activity: SpeechActivity
    preparer: Preparer
    history: HistoryKeeper
    listener: TurnListener
    observer: CallObserver
    watchdog: Watchdog
    tasks: asyncio.TaskGroup
    post: Callable[[Happening], None]
    now: Callable[[], float]
    tenant: str
    call_id: str
    endpointer: Endpointer = field(default_factory=Endpointer)
    barge_in: BargeIn = field(default_factory=BargeIn)
    echo: EchoEstimate = field(default_factory=EchoEstimate)
    floor: Floor = field(default_factory=Floor)


class TurnTaking:
    """The turn-taking of one call. Every method is called from the call's main loop; none blocks."""

    def __init__(self, parts: TurnParts) -> None:
        self.state = DialogueState()
        self._parts = parts
        self._voice = AgentVoice(parts.leg)
        self._turn: Turn | None = None
        self._playout: asyncio.Task[None] | None = None
        self._preparation: asyncio.Task[None] | None = None
        self._prepared: Prepared | None = None
        self._number = 0
        self._awaited = 0
        self._seq = 0
        self._is_committed = False
        self._retry_at: float | None = None
        self._digits = ""
        self._last_digit = 0.0
        self._times = UtteranceTimes(speech_end=0.0, pause_seen=0.0)
        self._onset = 0
        self._is_continuation = False
        self._has_late_words = False

    @property
    def turn(self) -> Turn | None:
        """The turn whose reply is being spoken."""
        return self._turn

    @property
    def next_seq(self) -> int:
        """The number of the next turn, or of the one that the caller is at."""
        return self._seq

    def restore(self, state: DialogueState, next_seq: int) -> None:
        """Go on where another worker had to stop; before anything is said."""
        self.state = state
        self._seq = next_seq

    def say_again(self, reply: Reply, *, caller_text: str, seq: int, began: float, is_protected: bool) -> None:
        """Speak the reply of a committed turn that another worker could not bring to its end. `began`: monotonic."""
        self._seq = seq
        self._start_turn(reply, caller_text=caller_text, prepared=None, is_protected=is_protected, began=began)

    @property
    def voice(self) -> AgentVoice:
        """The agent's side of the audio."""
        return self._voice

    def on_audio(self, pcm: bytes) -> None:
        """Take a frame of the caller."""
        parts = self._parts
        parts.watchdog.last_frame = parts.now()
        duration_s = len(pcm) / SAMPLE_BYTES / SAMPLE_RATE_HZ
        playout_dbfs = TYPICAL_PLAYOUT_DBFS if self._voice.is_speaking else SILENCE_DBFS
        minimum = parts.echo.minimum_dbfs(playout_dbfs, duration_s=duration_s)
        for event in parts.activity.feed(pcm, minimum_dbfs=minimum):
            self._on_activity(event)
        is_caller_speaking = parts.activity.state is ActivityState.SPEAKING
        parts.echo.learn(parts.activity.level_dbfs, is_caller_speaking=is_caller_speaking)
        self._decide()

    def on_missing_audio(self, missing_s: float) -> None:
        """No frame has come for so long: it counts as silence."""
        for event in self._parts.activity.starve(int(missing_s * SAMPLE_RATE_HZ)):
            self._on_activity(event)
        self._decide()

    def on_digit(self, digit: str) -> None:
        """Take a DTMF digit of the caller."""
        if not self._parts.floor.allows(FloorEvent.DIGIT_PRESSED):
            return
        self._apply(FloorEvent.DIGIT_PRESSED)
        self._last_digit = self._parts.now()
        self._parts.watchdog.busy()
        if digit != END_OF_DIGITS:
            self._digits += digit
        wanted = self.state.expectation.digits
        if digit == END_OF_DIGITS or (wanted is not None and len(self._digits) >= wanted):
            self._end_turn()

    def on_preparation(self, finished: PreparationFinished) -> None:
        """An answer is ready, or could not be made."""
        if finished.number != self._awaited:
            return
        self._preparation = None
        if finished.prepared is None:
            self._retry_at = self._parts.now() + RETRY_AFTER_S
            return
        if self._is_committed:
            self._answer(finished.prepared)
            return
        self._prepared = finished.prepared
        if finished.prepared.heard:
            self._parts.observer.observe(CallerSaid(seq=self._seq, text=finished.prepared.heard, is_final=False))
        self._decide()

    def on_playout_ended(self, ended: PlayoutEnded) -> None:
        """The caller heard the whole reply, or it broke."""
        turn = self._turn
        if turn is None or ended.number != turn.number or not self._parts.floor.allows(FloorEvent.PLAYOUT_FINISHED):
            return
        self._apply(FloorEvent.PLAYOUT_FINISHED)
        # FLUSH_PLAYOUT (the caller spoke into our last words) has counted the turn already.
        if self._turn is turn:
            self._count(turn, was_interrupted=False)
        self._parts.listener.reply_heard(turn.reply)

    def on_tick(self) -> None:
        """Time has passed: digits may be complete, a failed preparation may be tried again."""
        now = self._parts.now()
        if self._digits and not self._is_committed and now - self._last_digit > DIGITS_DONE_AFTER_S:
            self._end_turn()
        if self._retry_at is not None and now >= self._retry_at:
            self._prepare()
        self._decide()

    def say(self, reply: Reply, *, is_protected: bool = False) -> bool:
        """Speak without a turn of the caller before it: a greeting, a reprompt, the result of a tool.

        Returns False, and says nothing, when the caller has the floor.
        """
        if self._parts.floor.state in (*_CALLERS_FLOOR, *_ARBITRATING):
            return False
        self._drop_preparation()
        self._is_committed = False
        self._start_turn(reply, caller_text="", prepared=None, is_protected=is_protected)
        return True

    def say_filler(self, text: str) -> None:
        """Bridge a wait; not part of the history."""
        speech = Speech(text=text, source=SpeechSource.TEMPLATE)
        self._spawn(self._play((speech,), number=0), "filler")

    def end(self) -> None:
        """The call is over: count what was heard, stop everything."""
        if self._turn is not None:
            self._count(self._turn, was_interrupted=self._voice.is_speaking)
        if self._playout is not None:
            self._playout.cancel()
            self._playout = None
        self._drop_preparation()

    def purpose(self, priority: Priority) -> Purpose:
        """For whom this call's work is done."""
        parts = self._parts
        return Purpose(tenant=parts.tenant, call_id=parts.call_id, priority=priority, budget_s=PREPARATION_BUDGET_S)

    # Observing.

    def _on_activity(self, event: ActivityEvent) -> None:
        match event:
            case SpeechStarted():
                self._onset = event.onset
                self._is_continuation = False
                self._offer(FloorEvent.SPEECH_STARTED)
            case SpeechResumed():
                self._onset = event.onset
                self._is_continuation = True
                self._parts.endpointer.resumed_after(event.pause_s)
                self._offer(FloorEvent.SPEECH_RESUMED)
            case SpeechPaused():
                self._offer(FloorEvent.SPEECH_PAUSED)

    def _offer(self, event: FloorEvent) -> None:
        if self._parts.floor.allows(event):
            self._apply(event)

    def _decide(self) -> None:
        """Look whether the turn is over, or what the sound over our speech was."""
        state = self._parts.floor.state
        if state is FloorState.CALLER_PAUSED:
            self._decide_endpoint()
        elif state is FloorState.CALLER_SPEAKING and self._parts.activity.spoken_s > LONGEST_UTTERANCE_S:
            self._end_turn()
        elif state in _ARBITRATING:
            self._arbitrate()
        elif state is FloorState.AGENT_SPEAKING and self._prepared is not None:
            self._arbitrate_late_words()

    def _decide_endpoint(self) -> None:
        prepared = self._prepared
        if prepared is not None and prepared.reply is None and not self._digits:
            self._apply(FloorEvent.UTTERANCE_REJECTED)
            return
        endpointer, expectation = self._parts.endpointer, self.state.expectation
        if prepared is None or prepared.reply is None:
            required_s = endpointer.longest_wait_s(expectation)
        else:
            is_complete = prepared.reply.is_complete
            required_s = endpointer.required_silence_s(prepared.heard, is_complete=is_complete, expectation=expectation)
        if (
            prepared is not None
            and prepared.reply is not None
            and isinstance(prepared.reply.action, Escalate | EndCall)
        ):
            required_s = max(required_s, FINAL_SILENCE_S)
        if self._parts.activity.silence_s >= required_s:
            self._end_turn()

    def _end_turn(self) -> None:
        self._offer(FloorEvent.ENDPOINT_REACHED)

    def _arbitrate(self) -> None:
        barge_in = self._parts.barge_in
        if barge_in.state is not BargeInState.HELD:
            return
        evidence = self._evidence()
        if barge_in.wants_words(evidence.since_onset_s):
            self._prepare(since=self._onset)
        if evidence.text is None and self._preparation is not None and evidence.since_onset_s < LONGEST_HOLD_S:
            # Going on for a moment and stopping again would be worse than waiting for the words.
            return
        verdict = barge_in.consider(evidence)
        if verdict is Verdict.UNDECIDED:
            return
        self._parts.listener.barge_in_judged(barge_in.finding.value)
        if barge_in.finding is Finding.ECHO:
            self._parts.echo.confirmed(self._parts.activity.level_dbfs)
        if verdict is Verdict.FLUSH:
            self._apply(self._confirmation())
        else:
            self._prepared = None
            self._apply(FloorEvent.BARGE_IN_REJECTED)

    def _arbitrate_late_words(self) -> None:
        barge_in = self._parts.barge_in
        if barge_in.state is BargeInState.WENT_ON and barge_in.consider(self._evidence()) is Verdict.FLUSH:
            # The verdict comes with its words; they need not be recognised again.
            self._has_late_words = not self._is_continuation
            self._apply(self._confirmation())
            self._has_late_words = False
        else:
            self._prepared = None

    def _confirmation(self) -> FloorEvent:
        return FloorEvent.CONTINUATION_CONFIRMED if self._is_continuation else FloorEvent.BARGE_IN_CONFIRMED

    def _evidence(self) -> Evidence:
        activity, prepared = self._parts.activity, self._prepared
        transcript = prepared.transcript if prepared is not None else None
        return Evidence(
            since_onset_s=(activity.position - self._onset) / SAMPLE_RATE_HZ,
            spoken_s=activity.spoken_s,
            is_speaking=activity.state is ActivityState.SPEAKING,
            text=None if transcript is None else transcript.text,
            no_speech_probability=0.0 if transcript is None else transcript.no_speech_probability,
        )

    # Obeying.

    def _apply(self, event: FloorEvent) -> None:
        before = self._parts.floor.state
        for action in self._parts.floor.apply(event):
            self._carry_out(action)
        after = self._parts.floor.state
        if after is not before:
            self._tell_state(after)

    def _carry_out(self, action: FloorAction) -> None:  # noqa: C901 - one case an action
        match action:
            case FloorAction.START_SPECULATION:
                self._start_speculation()
            case FloorAction.DROP_SPECULATION:
                self._drop_preparation()
            case FloorAction.DROP_UTTERANCE:
                self._parts.activity.discard()
            case FloorAction.COMMIT_TURN:
                self._commit()
            case FloorAction.MERGE_UTTERANCE:
                self._take_back()
            case FloorAction.START_PLAYOUT:
                self._start_playout()
            case FloorAction.PAUSE_PLAYOUT:
                self._hold()
            case FloorAction.RESUME_PLAYOUT:
                self._spawn(self._parts.leg.resume(), "resume")
            case FloorAction.FLUSH_PLAYOUT:
                self._flush()
            case FloorAction.DROP_REPLY:
                self._drop_preparation()
                self._is_committed = False

    def _tell_state(self, state: FloorState) -> None:
        now, watchdog = self._parts.now(), self._parts.watchdog
        if state is FloorState.LISTENING:
            watchdog.quiet(now)
        elif state is FloorState.THINKING:
            watchdog.thinking(now)
        else:
            watchdog.busy()
        self._parts.observer.observe(StateChanged(activity=_ACTIVITIES.get(state, CallActivity.LISTENING)))

    def _start_speculation(self) -> None:
        activity, now = self._parts.activity, self._parts.now()
        silent_s = (activity.position - activity.speech_end) / SAMPLE_RATE_HZ
        self._times = UtteranceTimes(speech_end=now - silent_s, pause_seen=now)
        if self._parts.floor.state is FloorState.ARBITRATING_PAUSED:
            # The words of the turn before may still be in the utterance; a cough has none of its own.
            self._prepare(since=self._onset)
        elif not self._has_late_words:
            self._prepare()

    def _prepare(self, since: int | None = None) -> None:
        self._drop_preparation()
        self._number += 1
        self._awaited = self._number
        is_keyed_only = bool(self._digits) and self._parts.activity.spoken_s == 0
        pcm = b"" if is_keyed_only else self._parts.activity.utterance(since=since)
        self._preparation = self._spawn(self._run_preparation(self._number, pcm, self._digits), "preparation")

    async def _run_preparation(self, number: int, pcm: bytes, digits: str) -> None:
        purpose = self.purpose(Priority.LIVE if self._is_committed else Priority.SPECULATIVE)
        preparer, tasks = self._parts.preparer, self._parts.tasks
        try:
            async with asyncio.timeout(PREPARATION_BUDGET_S):
                if pcm:
                    prepared = await preparer.from_speech(pcm, self.state, purpose, tasks=tasks, keyed=digits)
                else:
                    prepared = await preparer.from_digits(digits, self.state, purpose, tasks=tasks)
        except Exception as error:  # noqa: BLE001 - whatever broke, the call goes on and tries again
            self._parts.post(PreparationFinished(number=number, prepared=None, error=error))
        else:
            self._parts.post(PreparationFinished(number=number, prepared=prepared))

    def _drop_preparation(self) -> None:
        if self._preparation is not None:
            self._preparation.cancel()
        self._preparation = None
        self._prepared = None
        self._awaited = 0
        self._retry_at = None

    def _commit(self) -> None:
        prepared, self._prepared = self._prepared, None
        self._is_committed = True
        self._parts.activity.release()
        is_current = prepared is not None and prepared.reply is not None and prepared.keyed == self._digits
        if prepared is not None and is_current:
            self._answer(prepared)
        elif self._preparation is None or self._digits:
            self._prepare()

    def _answer(self, prepared: Prepared) -> None:
        self._is_committed = False
        self._awaited = 0
        self._digits = ""
        if prepared.reply is None:
            self._apply(FloorEvent.NOTHING_TO_SAY)
            return
        self._parts.observer.observe(CallerSaid(seq=self._seq, text=prepared.heard, is_final=True))
        is_protected = isinstance(prepared.reply.action, Escalate | EndCall)
        self._start_turn(prepared.reply, caller_text=prepared.heard, prepared=prepared, is_protected=is_protected)
        self._parts.listener.turn_committed(prepared.reply)

    def _start_turn(
        self,
        reply: Reply,
        *,
        caller_text: str,
        prepared: Prepared | None,
        is_protected: bool,
        began: float | None = None,
    ) -> None:
        if self._turn is not None:
            self._count(self._turn, was_interrupted=False)
        self._number += 1
        self._turn = Turn(
            number=self._number,
            seq=self._seq,
            began=self._parts.now() if began is None else began,
            caller_text=caller_text,
            reply=reply,
            before=self.state,
            is_protected=is_protected,
            prepared=prepared,
            times=self._times if prepared is not None and prepared.transcript is not None else None,
        )
        self._seq += 1
        self.state = reply.state
        self._parts.listener.moved()
        self._apply(FloorEvent.PROTECTED_REPLY_READY if is_protected else FloorEvent.REPLY_READY)

    def _start_playout(self) -> None:
        assert self._turn is not None
        self._parts.barge_in.end()
        turn = self._turn
        self._playout = self._spawn(self._play(turn.reply.speeches, number=turn.number), "playout")

    async def _play(self, speeches: Sequence[Speech], *, number: int) -> None:
        error: Exception | None = None
        for _ in range(PLAYOUT_TRIES):
            try:
                await self._voice.say(speeches, self._clip, on_first_audio=lambda: self._first_audio(number))
            except Exception as broken:  # noqa: BLE001 - a reply that breaks ends the reply, not the call
                error = broken
            else:
                error = None
                break
            if any(clip.total_samples for clip in self._voice.clips):
                # The caller heard its beginning; saying it again from there would be worse than stopping.
                break
            await asyncio.sleep(RETRY_AFTER_S)
        self._parts.post(PlayoutEnded(number=number, error=error))

    def _clip(self, speech: Speech) -> AsyncIterator[bytes]:
        turn, preparer = self._turn, self._parts.preparer
        prepared = turn.prepared if turn is not None else None
        if prepared is not None and prepared.first_clip is not None and speech is prepared.first_speech:
            return prepared.first_clip.read()
        return preparer.audio.speech(speech.text, self.purpose(Priority.LIVE), voice=preparer.voice)

    def _first_audio(self, number: int) -> None:
        turn = self._turn
        if turn is None or turn.number != number:
            return
        turn.sent = self._parts.now()
        self._parts.listener.audio_started()
        said = " ".join(speech.text for speech in turn.reply.speeches)
        self._parts.observer.observe(AgentSaid(seq=turn.seq, text=said))
        self._parts.observer.observe(TurnTimed(seq=turn.seq, timings=turn.timings))

    def _hold(self) -> None:
        self._spawn(self._parts.leg.pause(), "pause")
        turn = self._turn
        said = " ".join(speech.text for speech in turn.reply.speeches) if turn is not None else ""
        self._parts.barge_in.begin(
            AgentSpeech(
                text=said,
                remaining_s=self._voice.remaining_s,
                expectation=self.state.expectation,
                may_echo=self._parts.echo.coupling_db > AUDIBLE_ECHO_DB,
            )
        )

    def _flush(self) -> None:
        if self._playout is not None:
            self._playout.cancel()
            self._playout = None
        # A turn that is about to be merged is taken back instead (`_take_back`).
        if self._turn is not None and not self._is_continuation:
            self._count(self._turn, was_interrupted=self._voice.remaining_s > 0)
        self._spawn(self._voice.silence(), "flush")

    def _take_back(self) -> None:
        """The turn was committed too early: as if it had never been."""
        self._parts.endpointer.decided_too_early()
        turn, self._turn = self._turn, None
        if turn is not None:
            self.state = turn.before
            self._seq = turn.seq
            self._parts.listener.moved()

    def _count(self, turn: Turn, *, was_interrupted: bool) -> None:
        self._turn = None
        heard = self._voice.heard_text
        self.state = self._parts.history.heard_only(self.state, heard)
        self._parts.listener.moved()
        if was_interrupted:
            self._parts.observer.observe(AgentSaid(seq=turn.seq, text=heard, was_interrupted=True))
        self._parts.listener.turn_ended(
            FinishedTurn(
                seq=turn.seq,
                began=turn.began,
                caller_text=turn.caller_text,
                agent_text=heard,
                reply=turn.reply,
                was_interrupted=was_interrupted,
                timings=turn.timings,
                is_silent=self._voice.is_silent,
            )
        )

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        return self._parts.tasks.create_task(work, name=f"call:{self._parts.call_id}:{name}")
