"""The caller of a drill: as patient as a person who notices that something went wrong.

Beyond what a caller of the bench does (`bench.caller`):
- who falls silent in the middle of a sentence is given two and a half seconds more before the caller speaks; so is a
  short remark ("are you still there?");
- where words can get lost (a killed worker hears nothing for a moment), a line that fell into the blow is said again
  once the agent has spoken. The drill tells the caller that there was a blow: a person hears it ("we were cut off");
- a caller who waits ten seconds for a word gives up: the call is lost;
- who lost their call rings back and goes on with the line that was not answered.
"""

import asyncio
import datetime as dt
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp

from bench.caller import ANSWER_WITHIN_S, LONGEST_ANSWER_S, CallLog, CallPlan, CallTrace, Ear, Ending
from bench.carrier import SILENCE, SILENCE_AHEAD_S, Carrier, ChannelEnded, PartyMedia
from bench.drills.ear_recording import EarRecording
from bench.drills.live_call import LiveCall, LiveCalls, TurnPhase
from bench.errors import CarrierError
from bench.exchange import UtteranceKind

PAUSES_S = (0.1, 0.5)
BROKEN_OFF_S = 2.5
# "Are you still there?" is no answer: one may follow.
REMARK_S = 1.6
# Longer than the bench's callers: an answer may pause where a clause is still being made.
SURE_S = 1.0
# A sibling has adopted the call by then and hears it again.
DEAF_S = 2.0
MOST_REPEATS = 2
LONGEST_CALL_S = 180.0
NO_WORD = "no word from the agent"
BYTES_PER_S = 8000
# A machine that is busy wakes us up late; a line begins this much later at most.
AHEAD_S = 0.25


@dataclass(slots=True)
class Person:
    """One caller with one call."""

    carrier: Carrier
    plan: CallPlan
    doors: tuple[str, ...]
    live: LiveCalls
    call: LiveCall
    answered: Callable[[LiveCall], None]
    # Where what it says and hears is kept.
    recordings: Path
    _record: EarRecording | None = None

    async def place(self) -> CallTrace:
        """Ring, talk, hang up; returns what happened, whatever happened."""
        log = CallLog()
        loop = asyncio.get_running_loop()
        rang_s = loop.time()
        channel, media = self.plan.call_id, None
        cause, ending, answered_after_s = 0, Ending.ABORTED, None
        try:
            media = await self.carrier.open_media(channel)
            channel, refused = await self._ring(media)
            log.started_s, log.answered_at = loop.time(), dt.datetime.now(dt.UTC)
            if refused is not None:
                cause, ending = refused.cause, Ending.REFUSED
            else:
                answered_after_s = log.started_s - rang_s
                self.call.answered_at, self.call.answered_s = log.answered_at, log.started_s
                self.answered(self.call)
                ended = await self._talk(channel, media, log)
                cause, ending = (ended.cause, Ending.NODE) if ended else (16, Ending.CALLER)
        except (CarrierError, TimeoutError, aiohttp.ClientError, ConnectionError) as error:
            log.problems.append(f"{type(error).__name__}: {error}")
        finally:
            self.live.enter(self.call, TurnPhase.OVER)
            if media is not None:
                await media.close()
                await self.carrier.clear(f"{channel}.bridge", channel, media.channel_id)
        spoken, heard = (self.recordings / f"{channel}.{side}.wav" for side in ("spoken", "heard"))
        if self._record is not None:
            await asyncio.to_thread(self._record.write, spoken, heard, loop.time())
        return CallTrace(
            plan=replace(self.plan, call_id=channel),
            ending=ending,
            cause=cause,
            answered_after_s=answered_after_s,
            answered_at=log.answered_at,
            length_s=log.now_s() if answered_after_s is not None else 0.0,
            utterances=tuple(log.utterances),
            is_script_done=log.is_done,
            problems=tuple(log.problems),
            spoken_file=spoken,
            heard_file=heard,
        )

    async def _ring(self, media: PartyMedia) -> tuple[str, ChannelEnded | None]:
        """Try the doors in their order, as a carrier does; the channel that was answered, or why none was."""
        refused: ChannelEnded | None = None
        channel = self.plan.call_id
        for number, door in enumerate(self.doors):
            channel = f"{self.plan.call_id}-{number}"
            user = self.plan.destination.partition("@")[0]
            await self.carrier.originate(channel, f"{user}@{door}", self.plan.caller_number, extension="plain")
            refused = await self.carrier.wait_until_answered(channel)
            if refused is None:
                await self.carrier.connect(f"{channel}.bridge", channel, media.channel_id)
                break
        return channel, refused

    async def _talk(self, channel: str, media: PartyMedia, log: CallLog) -> ChannelEnded | None:
        """Follow the script until it ends or the other side hangs up; returns the latter's cause."""
        ear = Ear()
        self._record = EarRecording(log.started_s)
        async with asyncio.TaskGroup() as group:
            name = f"drill:{channel}"
            sending = group.create_task(_keep_sending(media, ear), name=f"{name}:send")
            listening = group.create_task(self._listen(media, ear), name=f"{name}:listen")
            script = group.create_task(self._follow(media, ear, log), name=f"{name}:script")
            gone = group.create_task(self.carrier.wait_until_ended(channel), name=f"{name}:gone")
            await asyncio.wait({script, gone}, timeout=LONGEST_CALL_S, return_when=asyncio.FIRST_COMPLETED)
            for task in (sending, listening, script, gone):
                task.cancel()
        return self.carrier.ending(channel)

    async def _follow(self, media: PartyMedia, ear: Ear, log: CallLog) -> None:
        drawn = random.Random(self.plan.seed)  # noqa: S311 - pauses, not secrets
        self.live.enter(self.call, TurnPhase.GREETING)
        if await self._hear_out(ear, log) is None:
            return
        for index, spoken in enumerate(self.plan.lines):
            self.live.enter(self.call, TurnPhase.PAUSE)
            await asyncio.sleep(drawn.uniform(*PAUSES_S))
            for _ in range(1 + MOST_REPEATS):
                began_s = asyncio.get_running_loop().time()
                await self._say(media, log, index, spoken.codes)
                answered_s = await self._hear_out(ear, log, line=index)
                if answered_s is None:
                    return
                # Until the agent answers, the words may be with the worker alone.
                if not self.call.was_struck(began_s - DEAF_S, answered_s, losing_words=True):
                    break
                self.call.repeats += 1
        log.is_done = True

    async def _say(self, media: PartyMedia, log: CallLog, index: int, codes: bytes) -> None:
        self.live.enter(self.call, TurnPhase.CALLER_SPEAKS)
        begins_in_s = await media.play(codes)
        length_s = len(codes) / BYTES_PER_S
        if self._record is not None:
            self._record.say(codes, asyncio.get_running_loop().time() + begins_in_s)
        text = self.plan.scenario.lines[index].act
        log.note(UtteranceKind.LINE, index, str(text), begins_in_s, length_s)
        await asyncio.sleep(begins_in_s + length_s)
        self.live.enter(self.call, TurnPhase.AGENT_THINKS)

    async def _hear_out(self, ear: Ear, log: CallLog, line: int | None = None) -> float | None:
        """Wait for the agent's words and their end; returns when they began (the loop's clock), None when none came."""
        clock = asyncio.get_running_loop().time
        where = "greeting" if line is None else f"line {line}"
        if not await ear.wait_for_start(ANSWER_WITHIN_S):
            log.problems.append(f"{where}: {NO_WORD} in {ANSWER_WITHIN_S:.0f} s")
            return None
        first_s = began_s = clock()
        while True:
            if line is not None:
                self.live.enter(self.call, TurnPhase.AGENT_SPEAKS)
            await ear.wait_for_end(sure_after_s=SURE_S, within_s=LONGEST_ANSWER_S)
            may_go_on = self.call.was_struck(began_s, clock()) or clock() - SURE_S - began_s < REMARK_S
            began_s = clock()
            if not may_go_on or not await ear.wait_for_start(BROKEN_OFF_S):
                return first_s

    async def _listen(self, media: PartyMedia, ear: Ear) -> None:
        while (codes := await media.receive()) is not None:
            ear.hear(codes)
            if self._record is not None:
                self._record.hear(codes, asyncio.get_running_loop().time())


async def _keep_sending(media: PartyMedia, ear: Ear) -> None:
    """Send silence whenever there is nothing else, always a little ahead; runs until cancelled."""
    while True:
        ahead_s = await media.play(SILENCE) + SILENCE_AHEAD_S
        ear.tick()
        await asyncio.sleep(max(SILENCE_AHEAD_S / 2, ahead_s - AHEAD_S))
