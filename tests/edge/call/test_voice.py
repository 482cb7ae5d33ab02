"""A reply without any sound is marked; one that was cut short, or heard, is not."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from edge.call.ports import Purpose
from edge.call.voice import AgentVoice
from edge.conversation.dialogue import DialogueState, Reply, Speech, SpeechSource
from edge.inference.errors import InferenceUnavailableError
from tests.edge.call.talk import GREETING, ListLeg, ScriptedConversation, reply_of, talking

WORDS = (Speech(text="We open at nine.", source=SpeechSource.TEMPLATE),)


async def sound(speech: Speech) -> AsyncIterator[bytes]:
    yield bytes(6_400)


async def nothing(speech: Speech) -> AsyncIterator[bytes]:
    yield b""


async def broken(speech: Speech) -> AsyncIterator[bytes]:
    raise InferenceUnavailableError("the service is not there")
    yield b""


async def test_a_reply_of_which_no_sound_was_made_is_silent() -> None:
    voice = AgentVoice(ListLeg())
    await voice.say(WORDS, nothing, on_first_audio=lambda: None)
    assert voice.is_silent


async def test_a_reply_whose_synthesis_broke_before_any_sound_is_silent() -> None:
    voice = AgentVoice(ListLeg())
    with pytest.raises(InferenceUnavailableError):
        await voice.say(WORDS, broken, on_first_audio=lambda: None)
    assert voice.is_silent


async def test_a_reply_that_is_being_spoken_or_was_cut_short_is_not_silent() -> None:
    voice, started = AgentVoice(ListLeg()), asyncio.Event()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        playout = group.create_task(voice.say(WORDS, sound, on_first_audio=started.set))
        await started.wait()
        playout.cancel()
    assert not voice.is_silent


async def test_a_reply_that_is_cancelled_before_its_first_sound_is_not_silent() -> None:
    voice, asked = AgentVoice(ListLeg()), asyncio.Event()

    async def late(speech: Speech) -> AsyncIterator[bytes]:
        asked.set()
        await asyncio.Event().wait()
        yield b""

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        playout = group.create_task(voice.say(WORDS, late, on_first_audio=lambda: None))
        await asked.wait()
        playout.cancel()
    assert not voice.is_silent


class Speechless(ScriptedConversation):
    """Answers with words of which the fake synthesis makes no sound."""

    async def respond(self, state: DialogueState, heard: str, purpose: Purpose) -> Reply:
        return reply_of(state, heard, "")


async def test_the_record_of_a_turn_says_that_its_reply_was_silent(tmp_path: Path) -> None:
    async with talking(tmp_path, "hello there my friend", conversation=Speechless()) as talk:
        greeting = await talk.until_said(GREETING)
        talk.leg.hear(0.6, loud=True)
        talk.leg.hear(1.0, loud=False)
        async with asyncio.timeout(5):
            while len(talk.turns()) < 2:
                await asyncio.sleep(0.01)
        assert not greeting.is_silent
        assert talk.turns()[1].is_silent
