"""A call session on hand-written parts: a leg of lists, a recogniser of prepared answers, a detector of loudness."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.call.history import CallFacts, CallHistory
from edge.call.lifecycle import CallEvent, CallLifecycle
from edge.call.observer import NobodyWatches
from edge.call.parts import CallParts
from edge.call.ports import (
    FRAME_BYTES,
    SAMPLE_RATE_HZ,
    AudioReceived,
    HangupCause,
    LegEvent,
    PlayoutReached,
    Purpose,
    Transcript,
    TransferOutcome,
)
from edge.call.preparation import Preparer
from edge.call.resumption import Resumption, RingBack
from edge.call.saved_call import SavedCall
from edge.call.session import CallSession
from edge.call.watchdog import WatchdogSettings
from edge.conversation.dialogue import (
    Action,
    CallOutcome,
    DialogueState,
    EndCall,
    Exchange,
    Reply,
    RunTool,
    Speech,
    SpeechSource,
    ToolResult,
    Understanding,
)
from edge.observability.metrics import CallMetrics
from edge.records.model import Record, Transport, TurnRecord
from edge.records.subjects import name_subject
from edge.speech.prepared import PreparedAudio
from edge.turn.activity import SpeechActivity

GREETING = "Good day, how can I help?"
SORRY = "we were cut off"
WELCOME = "welcome back"
WITHIN_S = 5.0


class LoudnessDetector:
    """Everything loud is speech."""

    def probability(self, chunk: NDArray[np.float32]) -> float:
        return 1.0 if float(np.abs(chunk).mean()) > 500 else 0.0

    def reset(self) -> None:
        """Nothing is remembered."""


class ListLeg:
    """A leg whose playout the test controls: at once, or when `play_out` is called."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[LegEvent] = asyncio.Queue()
        self.is_instant = True
        self.sent = 0
        self.commands: list[str] = []
        self._marks: list[str] = []

    async def receive(self) -> LegEvent:
        return await self.events.get()

    async def send(self, pcm: bytes) -> None:
        self.sent += len(pcm)

    async def mark(self, name: str) -> None:
        self._marks.append(name)
        if self.is_instant:
            self.play_out()

    async def pause(self) -> None:
        self.commands.append("pause")

    async def resume(self) -> None:
        self.commands.append("resume")

    async def flush(self) -> None:
        self.commands.append("flush")
        self._marks.clear()

    def play_out(self, count: int | None = None) -> None:
        """The caller hears the next `count` marks, or all."""
        due = self._marks[:count]
        del self._marks[: len(due)]
        for mark in due:
            self.events.put_nowait(PlayoutReached(mark=mark))

    def hear(self, seconds: float, *, loud: bool) -> None:
        """The caller speaks, or is silent."""
        level = 8_000 if loud else 0
        frame = np.full(FRAME_BYTES // 2, level, dtype="<i2")
        frame[::2] *= -1
        for _ in range(round(seconds * SAMPLE_RATE_HZ * 2 / FRAME_BYTES)):
            self.events.put_nowait(AudioReceived(pcm=frame.tobytes()))


class ListControl:
    """Channels that do what the test says."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.causes: list[HangupCause] = []
        self.transfers: list[str] = []
        self.outcome = TransferOutcome.CONNECTED
        self.was_lost = False

    async def hang_up(self, cause: HangupCause) -> None:
        self.causes.append(cause)
        self.ended.set()

    async def transfer(self, destination: str, *, whisper: Sequence[bytes], timeout_s: float) -> TransferOutcome:
        assert b"".join(whisper)
        self.transfers.append(destination)
        return self.outcome

    async def wait_until_ended(self) -> None:
        await self.ended.wait()


class ScriptedRecogniser:
    """Gives the next text, or raises the next error; the last one again and again."""

    def __init__(self, *answers: str | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def transcribe(self, pcm: bytes, purpose: Purpose, *, language: str, hints: Sequence[str]) -> Transcript:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return Transcript(
            text=answer, no_speech_probability=0.0, average_log_probability=-0.1, queued_s=0.0, computed_s=0.05
        )


class WordsAsAudio:
    """A tenth of a second of sound for each word."""

    async def synthesize(self, text: str, purpose: Purpose, *, voice: str) -> AsyncIterator[bytes]:
        for _ in text.split():
            yield bytes(2 * SAMPLE_RATE_HZ // 10)


def reply_of(state: DialogueState, heard: str, said: str, action: Action | None = None) -> Reply:
    """A reply that is complete and adds itself to the history."""
    exchange = Exchange(caller=heard, agent=said, intent="test")
    return Reply(
        state=replace(state, history=(*state.history, exchange)),
        understanding=Understanding(intent="test", confidence=1.0),
        speeches=(Speech(text=said, source=SpeechSource.TEMPLATE),),
        is_complete=True,
        action=action,
    )


@dataclass
class ScriptedConversation:
    """Answers "you said ..." unless the words have an answer of their own."""

    actions: dict[str, Action] = field(default_factory=dict)
    opening_state: DialogueState = field(default_factory=lambda: DialogueState(has_consent=True))
    heard: list[str] = field(default_factory=list)
    error: Exception | None = None

    def opening(self) -> Reply:
        return replace(reply_of(self.opening_state, "", GREETING), state=self.opening_state)

    async def respond(self, state: DialogueState, heard: str, purpose: Purpose) -> Reply:
        if self.error is not None:
            raise self.error
        self.heard.append(heard)
        return reply_of(state, heard, f"you said {heard} and that is quite a long story", self.actions.get(heard))

    async def digits(self, state: DialogueState, digits: str, purpose: Purpose) -> Reply:
        return await self.respond(state, digits, purpose)

    async def after_tool(self, state: DialogueState, result: ToolResult) -> Reply:
        return reply_of(state, "", f"the tool says {result.fields['answer']}")

    def after_transfer_failed(self, state: DialogueState, outcome: TransferOutcome) -> Reply:
        return reply_of(state, "", f"nobody there {outcome.value}")

    def no_input(self, state: DialogueState, count: int) -> Reply:
        action = EndCall(reason="silence") if count > 1 else None
        return reply_of(state, "", f"are you there {count}", action)

    def restored(self, state: DialogueState) -> DialogueState:
        return state

    def resume(self, state: DialogueState) -> Reply:
        reply = reply_of(state, "", SORRY)
        again = (Speech(text=state.last_speech, source=SpeechSource.TEMPLATE),) if state.last_speech else ()
        return replace(reply, speeches=(*reply.speeches, *again))

    def welcome_back(self, state: DialogueState, unheard: tuple[Speech, ...] = ()) -> Reply:
        reply = reply_of(state, "", WELCOME)
        if self.opening_state.pending is not None:
            return replace(reply, state=replace(reply.state, pending=self.opening_state.pending))
        return replace(reply, speeches=(*reply.speeches, *unheard))

    def heard_only(self, state: DialogueState, heard_text: str) -> DialogueState:
        if not state.history:
            return state
        return replace(state, history=(*state.history[:-1], replace(state.history[-1], agent=heard_text)))


class OneTool:
    """A tool with one answer, and a count of how often it ran."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    async def run(self, action: RunTool, *, key: str) -> ToolResult:
        self.keys.append(key)
        return ToolResult(tool=action.tool, fields={"answer": "forty two"})


@dataclass
class Talk:
    """A running call and its parts."""

    leg: ListLeg
    control: ListControl
    conversation: ScriptedConversation
    recogniser: ScriptedRecogniser
    tools: OneTool
    records: list[Record]
    saved: list[SavedCall]
    call: asyncio.Task[CallOutcome]
    session: CallSession

    def turns(self) -> list[TurnRecord]:
        return [record for record in self.records if isinstance(record, TurnRecord)]

    async def until_said(self, words: str) -> TurnRecord:
        """The turn in which the caller heard these words."""
        async with asyncio.timeout(WITHIN_S):
            while True:
                for turn in self.turns():
                    if words in turn.agent_text:
                        return turn
                await asyncio.sleep(0.01)

    async def until(self, command: str) -> None:
        """Return when the leg was told this."""
        async with asyncio.timeout(WITHIN_S):
            while command not in self.leg.commands:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def talking(
    tmp_path: Path,
    *answers: str | Exception,
    conversation: ScriptedConversation | None = None,
    watchdog: WatchdogSettings | None = None,
    resumption: Resumption | None = None,
    ring_back: RingBack | None = None,
    farewell: bytes = b"",
) -> AsyncIterator[Talk]:
    """A call that was just answered, or that another worker had."""
    leg, control, recogniser, tools = ListLeg(), ListControl(), ScriptedRecogniser(*(answers or ("",))), OneTool()
    speaking = conversation or ScriptedConversation()
    records: list[Record] = []
    saved: list[SavedCall] = []
    facts = CallFacts(
        call_id="c1",
        tenant="t",
        agent="a",
        agent_version="1",
        subject_id=name_subject("+15550123", bytes(32)),
        called_number="+15550100",
        transport=Transport.SIP,
    )
    preparer = Preparer(
        transcriber=recogniser,
        responder=speaking,
        audio=PreparedAudio(tmp_path, WordsAsAudio(), model="m"),
        now=time.monotonic,
        voice="v",
        language="en",
    )
    lifecycle = CallLifecycle()
    lifecycle.advance(CallEvent.SLOT_TAKEN)
    session = CallSession(
        CallParts(
            facts=facts,
            leg=leg,
            control=control,
            conversation=speaking,
            preparer=preparer,
            activity=SpeechActivity(LoudnessDetector()),
            history=CallHistory(facts, records.append, CallMetrics.create(), time.monotonic),
            observer=NobodyWatches(),
            tools=tools,
            human="+15550190",
            filler="one moment please",
            farewell=farewell,
            now=time.monotonic,
            save=saved.append,
            resumption=resumption,
            ring_back=ring_back,
            watchdog=watchdog or WatchdogSettings(),
        ),
        lifecycle,
    )
    async with asyncio.TaskGroup() as tasks:
        call = tasks.create_task(session.run(), name="call")
        yield Talk(
            leg=leg,
            control=control,
            conversation=speaking,
            recogniser=recogniser,
            tools=tools,
            records=records,
            saved=saved,
            call=call,
            session=session,
        )
        control.ended.set()
