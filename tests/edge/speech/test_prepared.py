from collections.abc import AsyncIterator
from pathlib import Path

from edge.call.ports import Priority, Purpose
from edge.speech.prepared import PreparedAudio

LIVE = Purpose(tenant="t", call_id="c", priority=Priority.LIVE, budget_s=1.0)


class CountingSynthesizer:
    """Says each text as its own bytes and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def synthesize(self, text: str, purpose: Purpose, *, voice: str) -> AsyncIterator[bytes]:
        self.asked.append(text)
        for word in text.split():
            yield word.encode()


async def spoken(audio: PreparedAudio, text: str) -> bytes:
    return b"".join([piece async for piece in audio.speech(text, LIVE, voice="v")])


async def test_prepared_text_is_never_synthesised_again_even_by_another_worker(tmp_path: Path) -> None:
    first = CountingSynthesizer()
    assert await PreparedAudio(tmp_path, first, model="m").prepare(["good day", "bye"], voice="v", tenant="t") == 2
    second = CountingSynthesizer()
    audio = PreparedAudio(tmp_path, second, model="m")
    assert await audio.prepare(["good day", "bye"], voice="v", tenant="t") == 0
    assert await spoken(audio, "good day") == b"goodday"
    assert second.asked == []


async def test_another_model_or_voice_has_its_own_clips(tmp_path: Path) -> None:
    synthesizer = CountingSynthesizer()
    await PreparedAudio(tmp_path, synthesizer, model="m").prepare(["good day"], voice="v", tenant="t")
    assert PreparedAudio(tmp_path, synthesizer, model="n").clip("good day", voice="v") is None
    assert PreparedAudio(tmp_path, synthesizer, model="m").clip("good day", voice="w") is None


async def test_what_is_synthesised_in_a_call_is_kept_for_the_next(tmp_path: Path) -> None:
    synthesizer = CountingSynthesizer()
    audio = PreparedAudio(tmp_path, synthesizer, model="m")
    assert await spoken(audio, "ninety nine") == await spoken(audio, "ninety nine")
    assert synthesizer.asked == ["ninety nine"]


async def test_a_disk_that_gets_full_takes_no_clips_and_they_are_kept_in_memory(tmp_path: Path) -> None:
    audio = PreparedAudio(tmp_path, CountingSynthesizer(), model="m", may_write=lambda: False)
    assert await audio.prepare(["one two"], voice="v", tenant="t") == 1
    assert audio.clip("one two", voice="v") is not None
    again = PreparedAudio(tmp_path, CountingSynthesizer(), model="m")
    assert again.clip("one two", voice="v") is None
