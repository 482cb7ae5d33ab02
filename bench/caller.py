"""A simulated caller: listens to the agent, speaks its lines as a person would, presses keys, interrupts, hangs up.

Owns when a caller acts. Every wait is bounded; the call's seed decides voice and pauses, so that a run is repeatable.
A caller starts a line 0.8 to 1.2 s after the agent has fallen silent (0.7 s to be sure that it has, then a pause of
its own): shorter than that, a person talks into pauses between sentences.
"""

import asyncio
import datetime as dt
import math
import random
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import numpy as np

from bench import g711
from bench.carrier import FRAME_BYTES, Carrier, ChannelEnded, IncomingCall, PartyMedia
from bench.errors import CarrierError
from bench.exchange import Utterance, UtteranceKind
from bench.scenario import ExpectedAction, Line, Press, Say, Scenario, Wait

SPEECH_DBFS = -45.0
STARTS_AFTER_FRAMES = 3
STOPS_AFTER_FRAMES = 12
SURE_IT_ENDED_S = 0.7
PAUSES_S = (0.1, 0.5)
ANSWER_WITHIN_S = 10.0
LONGEST_ANSWER_S = 45.0
NOISE_AFTER_S = 1.0
HUMAN_WITHIN_S = 30.0
HUMAN_PAUSES_S = 1.0
RINGING_S = 2.0
# The ear hears the end of a sound a quarter second late.
RINGING_TOLERANCE_S = 0.4
AGENT_HANGS_UP_WITHIN_S = 8.0
LONGEST_CALL_S = 300.0
KEY_MS, KEY_PAUSE_MS = 100, 100
SAMPLES_PER_S = 8000


class Ending(StrEnum):
    """Who ended a call."""

    CALLER = "caller"
    NODE = "node"
    REFUSED = "refused"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpokenLine:
    """A line of the scenario with its sound (mu-law; empty for keys and silence)."""

    line: Line
    codes: bytes = b""
    noise_codes: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """One call of a run."""

    call_id: str
    seed: int
    destination: str
    caller_number: str
    scenario: Scenario
    lines: tuple[SpokenLine, ...]
    is_recorded: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CallTrace:
    """What a caller did and what became of the call; times in seconds since the answer."""

    plan: CallPlan
    ending: Ending
    cause: int
    answered_after_s: float | None
    answered_at: dt.datetime
    length_s: float
    utterances: tuple[Utterance, ...]
    is_script_done: bool
    problems: tuple[str, ...]
    spoken_file: Path
    heard_file: Path


class Ear:
    """Hears whether the other side is speaking: three loud frames start it, a quarter second of quiet ends it.

    An Asterisk with nothing to say sends no RTP at all, so `tick` ends speech when frames stop coming.
    """

    def __init__(self) -> None:
        self._heard_s = 0.0
        self._loud = 0
        self._quiet = 0
        self.is_speaking = False
        self.started = asyncio.Event()
        self.stopped = asyncio.Event()

    def hear(self, codes: bytes) -> None:
        """Take in received mu-law, 20 ms or a multiple."""
        self._heard_s = asyncio.get_running_loop().time()
        for start in range(0, len(codes), FRAME_BYTES):
            self._frame(codes[start : start + FRAME_BYTES])

    def tick(self) -> None:
        """Notice that nothing comes any more."""
        if self.is_speaking and asyncio.get_running_loop().time() - self._heard_s > STOPS_AFTER_FRAMES * 0.02:
            self._stop()

    async def wait_for_start(self, within_s: float) -> bool:
        """Whether the other side speaks, now or within the time."""
        return self.is_speaking or await _happens(self.started, within_s)

    async def wait_for_end(self, *, sure_after_s: float, within_s: float) -> bool:
        """Return once the other side has been silent for `sure_after_s`; False when it talks on all the time."""
        try:
            async with asyncio.timeout(within_s):
                while self.is_speaking or await _happens(self.started, sure_after_s):
                    await self.stopped.wait()
        except TimeoutError:
            return False
        return True

    def _frame(self, frame: bytes) -> None:
        is_loud = level_dbfs(frame) > SPEECH_DBFS
        self._loud = self._loud + 1 if is_loud else 0
        self._quiet = 0 if is_loud else self._quiet + 1
        if not self.is_speaking and self._loud >= STARTS_AFTER_FRAMES:
            self.is_speaking = True
            self.stopped.clear()
            self.started.set()
        elif self.is_speaking and self._quiet >= STOPS_AFTER_FRAMES:
            self._stop()

    def _stop(self) -> None:
        self.is_speaking = False
        self._loud = 0
        self.started.clear()
        self.stopped.set()


def level_dbfs(codes: bytes) -> float:
    """RMS level of mu-law audio."""
    samples = g711.decode(codes).astype(np.float32)
    power = float(np.dot(samples, samples)) / max(1, len(samples))
    return 10 * math.log10(max(power, 1e-3) / 32768**2)


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        return False
    return True


class Party(Protocol):
    """The caller's end of a call, on any transport."""

    async def play(self, codes: bytes) -> float:
        """Queue mu-law; returns in how many seconds it begins to be heard."""

    async def press(self, digits: str, *, each_ms: int, between_ms: int) -> None:
        """Send keys; returns at once, they take their time."""

    async def wait_until_ended(self) -> None:
        """Return when the call is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _SipParty:
    """A caller on the trunk."""

    carrier: Carrier
    media: PartyMedia
    call_id: str

    async def play(self, codes: bytes) -> float:
        return await self.media.play(codes)

    async def press(self, digits: str, *, each_ms: int, between_ms: int) -> None:
        await self.carrier.press(self.call_id, digits, each_ms=each_ms, between_ms=between_ms)

    async def wait_until_ended(self) -> None:
        await self.carrier.wait_until_ended(self.call_id)


@dataclass(slots=True)
class CallLog:
    """What a caller notes while it acts."""

    started_s: float = 0.0
    answered_at: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    utterances: list[Utterance] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    is_done: bool = False

    def now_s(self) -> float:
        return asyncio.get_running_loop().time() - self.started_s

    def note(self, kind: UtteranceKind, line: int, text: str, begins_in_s: float, length_s: float) -> None:
        start = self.now_s() + begins_in_s
        self.utterances.append(Utterance(kind=kind, line=line, text=text, start_s=start, end_s=start + length_s))


async def place_call(carrier: Carrier, plan: CallPlan) -> CallTrace:
    """Ring, talk, hang up; returns what happened, whatever happened. Nothing of the call is left on the carrier."""
    log = CallLog()
    rang_s = asyncio.get_running_loop().time()
    media = await carrier.open_media(plan.call_id)
    try:
        await carrier.originate(
            plan.call_id, plan.destination, plan.caller_number, extension="recorded" if plan.is_recorded else "plain"
        )
        refused = await carrier.wait_until_answered(plan.call_id)
        log.started_s = asyncio.get_running_loop().time()
        log.answered_at = dt.datetime.now(dt.UTC)
        if refused is not None:
            return _trace(carrier, plan, log, ending=Ending.REFUSED, cause=refused.cause, answered_after_s=None)
        await carrier.connect(f"{plan.call_id}.bridge", plan.call_id, media.channel_id)
        ended = await _talk(carrier, plan, media, log)
        return _trace(
            carrier,
            plan,
            log,
            ending=Ending.NODE if ended else Ending.CALLER,
            cause=ended.cause if ended else 16,
            answered_after_s=log.started_s - rang_s,
        )
    except (CarrierError, TimeoutError, ConnectionError) as error:
        log.problems.append(f"{type(error).__name__}: {error}")
        return _trace(carrier, plan, log, ending=Ending.ABORTED, cause=0, answered_after_s=None)
    finally:
        await media.close()
        await carrier.clear(f"{plan.call_id}.bridge", plan.call_id, media.channel_id)


async def _talk(carrier: Carrier, plan: CallPlan, media: PartyMedia, log: CallLog) -> ChannelEnded | None:
    """Play the script until it ends or the node hangs up; returns the latter's cause."""
    ear = Ear()
    async with asyncio.TaskGroup() as group:
        name = f"caller:{plan.call_id}"
        sending = group.create_task(media.keep_sending(ear.tick), name=f"{name}:send")
        listening = group.create_task(_listen(media, ear), name=f"{name}:listen")
        script = group.create_task(
            follow(_SipParty(carrier=carrier, media=media, call_id=plan.call_id), plan, ear, log), name=f"{name}:script"
        )
        gone = group.create_task(carrier.wait_until_ended(plan.call_id), name=f"{name}:gone")
        await asyncio.wait({script, gone}, timeout=LONGEST_CALL_S, return_when=asyncio.FIRST_COMPLETED)
        if not script.done() and not gone.done():
            log.problems.append(f"still talking after {LONGEST_CALL_S:.0f} s")
        for task in (sending, listening, script, gone):
            task.cancel()
    return carrier.ending(plan.call_id)


async def _listen(media: PartyMedia, ear: Ear) -> None:
    while (codes := await media.receive()) is not None:
        ear.hear(codes)


async def follow(party: Party, plan: CallPlan, ear: Ear, log: CallLog) -> None:
    """Act the scenario out: listen, speak, press, interrupt, until its end."""
    drawn = random.Random(plan.seed)  # noqa: S311 - pauses, not secrets
    for index, spoken in enumerate(plan.lines):
        if not await ear.wait_for_start(ANSWER_WITHIN_S):
            log.problems.append(f"line {index}: no word from the agent in {ANSWER_WITHIN_S:.0f} s before it")
        act = spoken.line.act
        if isinstance(act, Say) and act.barge_in_after_s is not None:
            await asyncio.sleep(act.barge_in_after_s)
        else:
            await ear.wait_for_end(sure_after_s=SURE_IT_ENDED_S, within_s=LONGEST_ANSWER_S)
            await asyncio.sleep(drawn.uniform(*PAUSES_S))
        # An agent may rightly hang up during the last line, while the caller waits.
        log.is_done = index == len(plan.lines) - 1
        await _act(party, plan.lines[index], ear, log, index)
    if plan.lines:
        await _close(party, plan, ear, log)
    else:
        # A call without lines only hears that somebody is there.
        log.is_done = await ear.wait_for_start(ANSWER_WITHIN_S)


async def _act(party: Party, spoken: SpokenLine, ear: Ear, log: CallLog, index: int) -> None:
    match spoken.line.act:
        case Press(digits=digits):
            length_s = len(digits) * (KEY_MS + KEY_PAUSE_MS) / 1000
            log.note(UtteranceKind.DIGITS, index, digits, 0.0, length_s)
            await party.press(digits, each_ms=KEY_MS, between_ms=KEY_PAUSE_MS)
            await asyncio.sleep(length_s)
        case Wait(seconds=seconds):
            log.note(UtteranceKind.SILENCE, index, "", 0.0, seconds)
            # One silence is answered by one reminder: the next line begins after it.
            await ear.wait_for_start(seconds)
        case Say(text=text, barge_in_after_s=barge_in_after_s, noise=noise):
            kind = UtteranceKind.LINE if barge_in_after_s is None else UtteranceKind.BARGE_IN
            await _sound(party, log, spoken.codes, Utterance(kind=kind, line=index, text=text, start_s=0.0, end_s=0.0))
            if noise is not None:
                await _disturb(party, spoken, ear, log, index)


async def _sound(party: Party, log: CallLog, codes: bytes, utterance: Utterance) -> None:
    length_s = len(codes) / SAMPLES_PER_S
    begins_in_s = await party.play(codes)
    log.note(utterance.kind, utterance.line, utterance.text, begins_in_s, length_s)
    await asyncio.sleep(begins_in_s + length_s)


async def _disturb(party: Party, spoken: SpokenLine, ear: Ear, log: CallLog, index: int) -> None:
    if await ear.wait_for_start(ANSWER_WITHIN_S):
        await asyncio.sleep(NOISE_AFTER_S)
        noise = Utterance(kind=UtteranceKind.NOISE, line=index, text="", start_s=0.0, end_s=0.0)
        await _sound(party, log, spoken.noise_codes, noise)


async def _close(party: Party, plan: CallPlan, ear: Ear, log: CallLog) -> None:
    """Hear the last answer out, then do what the scenario expects of the end."""
    if not await ear.wait_for_start(ANSWER_WITHIN_S):
        log.problems.append(f"no answer to the last line in {ANSWER_WITHIN_S:.0f} s")
    await ear.wait_for_end(sure_after_s=SURE_IT_ENDED_S, within_s=LONGEST_ANSWER_S)
    match plan.lines[-1].line.expect.action:
        case ExpectedAction.ESCALATE:
            if not await _hear_human(ear):
                log.problems.append(f"no human in {HUMAN_WITHIN_S:.0f} s")
        case ExpectedAction.END:
            try:
                async with asyncio.timeout(AGENT_HANGS_UP_WITHIN_S):
                    await party.wait_until_ended()
            except TimeoutError:
                log.problems.append("the agent did not hang up")
        case _:
            pass


async def _hear_human(ear: Ear) -> bool:
    """Wait for speech that is no ringing tone (2 s each, ITU-T E.180), and hear it out."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + HUMAN_WITHIN_S
    while await ear.wait_for_start(max(0.0, deadline - clock())):
        began = clock()
        await ear.stopped.wait()
        if abs(clock() - began - RINGING_S) > RINGING_TOLERANCE_S:
            return await ear.wait_for_end(sure_after_s=HUMAN_PAUSES_S, within_s=LONGEST_ANSWER_S)
    return False


def _trace(
    carrier: Carrier, plan: CallPlan, log: CallLog, *, ending: Ending, cause: int, answered_after_s: float | None
) -> CallTrace:
    spoken_file, heard_file = carrier.recording(plan.call_id)
    return CallTrace(
        plan=plan,
        ending=ending,
        cause=cause,
        answered_after_s=answered_after_s,
        answered_at=log.answered_at,
        length_s=log.now_s() if answered_after_s is not None else 0.0,
        utterances=tuple(log.utterances),
        is_script_done=log.is_done,
        problems=tuple(log.problems),
        spoken_file=spoken_file,
        heard_file=heard_file,
    )


HUMAN_ANSWERS_AFTER_S = 0.5
BRIEFING_BEGINS_WITHIN_S = 5.0
LONGEST_BRIEFING_S = 60.0
HUMAN_STAYS_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HumanCall:
    """A call that reached the desk, and the briefing it got (mu-law)."""

    call: IncomingCall
    briefing_codes: bytes


class Desk:
    """The human desk of a run: answers what the node rings, hears the briefing out, greets the caller."""

    def __init__(self, greeting_codes: bytes) -> None:
        self._greeting = greeting_codes
        self.calls: list[HumanCall] = []

    async def answer(self, carrier: Carrier, call: IncomingCall) -> None:
        """One escalated call, from ringing to its end."""
        name = f"{call.channel_id}.desk"
        media = await carrier.open_media(name)
        try:
            await asyncio.sleep(HUMAN_ANSWERS_AFTER_S)
            await carrier.answer(call.channel_id)
            await carrier.connect(f"{name}.bridge", call.channel_id, media.channel_id)
            await self._speak(carrier, call, media)
        except (CarrierError, TimeoutError, ConnectionError):
            # The caller hung up while the desk was ringing: the channels are gone, and that is no fault.
            return
        finally:
            await media.close()
            await carrier.clear(f"{name}.bridge", call.channel_id, media.channel_id)

    async def _speak(self, carrier: Carrier, call: IncomingCall, media: PartyMedia) -> None:
        ear = Ear()
        heard = bytearray()
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(media.keep_sending(ear.tick), name=f"desk:{call.channel_id}:send")
            listening = group.create_task(self._listen(media, ear, heard), name=f"desk:{call.channel_id}:listen")
            if await ear.wait_for_start(BRIEFING_BEGINS_WITHIN_S):
                await ear.wait_for_end(sure_after_s=SURE_IT_ENDED_S, within_s=LONGEST_BRIEFING_S)
            self.calls.append(HumanCall(call=call, briefing_codes=bytes(heard)))
            await media.play(self._greeting)
            try:
                async with asyncio.timeout(HUMAN_STAYS_S):
                    await carrier.wait_until_ended(call.channel_id)
            except TimeoutError:
                pass
            finally:
                sending.cancel()
                listening.cancel()

    async def _listen(self, media: PartyMedia, ear: Ear, heard: bytearray) -> None:
        while (codes := await media.receive()) is not None:
            ear.hear(codes)
            heard += codes
