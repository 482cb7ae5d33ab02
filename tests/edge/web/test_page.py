"""The page in a real Chromium: a call with audio both ways, its transcript, and what it says when things go wrong."""

import asyncio
import os
import wave
from pathlib import Path

import numpy as np
import pytest

from tests.browser import CHROMIUM, open_call_page
from tests.edge.web.conftest import EchoAcceptor
from tests.edge.web.peer import tone

pytestmark = pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="Chromium is not installed")


@pytest.fixture
def microphone(tmp_path: Path) -> Path:
    """Half a second of tone, half a second of silence."""
    path = tmp_path / "microphone.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(48_000)
        file.writeframes(tone(440, 0.5, 48_000, amplitude=12_000) + bytes(48_000))
    return path


async def test_a_call_carries_audio_both_ways_and_shows_what_is_said(
    page_url: str, acceptor: EchoAcceptor, microphone: Path
) -> None:
    async with open_call_page(page_url, microphone) as page:
        await page.call("Riverside Pharmacy")
        await page.wait_for_words("On Saturdays we are open")
        await page.press("5")
        await page.wait_for_words("Key 5")
        async with asyncio.timeout(10):
            while (heard := await page.heard()).seconds < 2.5:
                await page.page.wait_for_timeout(100)
        if "BOROUGH_SCREENSHOT" in os.environ:
            await page.page.screenshot(path=os.environ["BOROUGH_SCREENSHOT"])
        assert ("caller", "When do you open on Saturday?") in await page.transcript()
        assert await page.turn_totals() == ["226 ms", "318 ms"]
        await page.hang_up()
        async with asyncio.timeout(5):
            await acceptor.ended.wait()
    assert heard.level > 0.05
    assert heard.concealed_ratio < 0.2
    assert acceptor.digits == ["5"]
    assert acceptor.agents == ["pharmacy"]
    assert np.percentile(acceptor.frame_levels, 90) > 2000
    assert acceptor.used == 0


async def test_a_full_node_says_when_to_call_again(page_url: str, acceptor: EchoAcceptor, microphone: Path) -> None:
    acceptor.capacity = 0
    async with open_call_page(page_url, microphone) as page:
        await page.page.get_by_role("button", name="Call", exact=True).click()
        assert "call again in 20 seconds" in await page.problem()
        await page.wait_until_over()


async def test_a_blocked_microphone_says_how_to_allow_it(page_url: str, microphone: Path) -> None:
    async with open_call_page(page_url, microphone, allows_microphone=False) as page:
        await page.page.get_by_role("button", name="Call", exact=True).click()
        assert "Allow it for this page" in await page.problem()
        await page.wait_until_over()


async def test_a_call_that_breaks_says_so_and_frees_its_place(
    page_url: str, acceptor: EchoAcceptor, microphone: Path
) -> None:
    acceptor.fails = True
    async with open_call_page(page_url, microphone) as page:
        await page.page.get_by_role("button", name="Call", exact=True).click()
        assert "call again" in await page.problem()
    assert acceptor.used == 0
