"""A person talks to an agent from a browser: real page, real WebRTC, real models; the microphone plays a WAV file."""

import wave
from pathlib import Path

import numpy as np
import pytest
import soxr

from bench.run import line_cache
from bench.target import Target
from bench.voices import voice_of
from tests.browser import CHROMIUM, open_call_page

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Chromium is not installed")

QUESTION = "What time do you close on Friday?"
BEFORE_S = 5.0
AFTER_S = 12.0
RATE_HZ = 48_000


@pytest.fixture
def microphone(region: Target, tmp_path: Path) -> Path:
    """Silence while the agent greets, the question, silence while it answers."""
    line = line_cache(region).line(QUESTION, voice_of(0))
    speech = soxr.resample(line.astype(np.float32), 16_000, RATE_HZ).astype("<i2")
    silence = [np.zeros(int(seconds * RATE_HZ), dtype="<i2") for seconds in (BEFORE_S, AFTER_S)]
    path = tmp_path / "microphone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(np.concatenate([silence[0], speech, silence[1]]).tobytes())
    return path


async def test_the_page_shows_what_was_said_and_the_answer_is_heard(region: Target, microphone: Path) -> None:
    async with open_call_page(region.web_url, microphone, limit_s=25.0) as page:
        await page.call("Harbour Bank")
        await page.wait_for_words("How can I help you?")
        greeted = await page.heard()
        await page.wait_for_words("five thirty")
        await page.wait_for_activity("Listening")
        answered = await page.heard()
        caller = [words for speaker, words in await page.transcript() if speaker == "caller"]
        assert any("close on Friday" in words for words in caller)
        assert await page.turn_totals()
        # Twelve words take more than two seconds to say; the line carries silence all the time.
        assert answered.seconds - greeted.seconds > 2.0
        assert answered.level > 0.02
        assert answered.concealed_ratio < 0.2
        await page.hang_up()
