"""Drives Debian's Chromium on the call page: speaks a WAV file, presses the page's buttons, measures what it hears."""

import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from playwright.async_api import Locator, Page, async_playwright, expect

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
)
# Keeps the page's connections where a test finds them; the page itself knows nothing of tests.
KEEP_CONNECTIONS = """
window.keptConnections = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...given) { super(...given); window.keptConnections.push(this); }
};
"""
INBOUND_AUDIO = """
async () => {
  const report = await window.keptConnections.at(-1).getStats();
  for (const entry of report.values()) {
    if (entry.type === "inbound-rtp" && entry.kind === "audio") {
      return { energy: entry.totalAudioEnergy, seconds: entry.totalSamplesDuration, packets: entry.packetsReceived,
               jitter_s: entry.jitter, buffered_s: entry.jitterBufferDelay / (entry.jitterBufferEmittedCount || 1),
               concealed: entry.concealedSamples / (entry.totalSamplesReceived || 1) };
    }
  }
  return { energy: 0, seconds: 0, packets: 0, jitter_s: 0, buffered_s: 0, concealed: 0 };
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What the browser played since the call began. `level` is the root mean square, full scale 1."""

    level: float
    seconds: float
    packets: int
    jitter_s: float
    buffered_s: float
    concealed_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPage:
    """The node's page in a browser. Every step waits at most `limit_s` and fails with what the page shows."""

    page: Page
    limit_s: float = 10.0

    async def call(self, agent: str) -> None:
        """Choose an agent by title and press Call; returns once the connection stands."""
        await self.page.get_by_role("radio", name=agent).check()
        await self.page.get_by_role("button", name="Call", exact=True).click()
        await expect(self.page.locator("#activity")).not_to_have_text("Connecting", timeout=self._limit_ms)

    async def press(self, digit: str) -> None:
        """Press a key of the keypad."""
        await self.page.get_by_role("button", name=digit, exact=True).click()

    async def hang_up(self) -> None:
        """Press Hang up; returns once the page offers a new call."""
        await self.page.get_by_role("button", name="Hang up").click()
        await self.wait_until_over()

    async def wait_until_over(self) -> None:
        """Wait until the page offers a new call."""
        await expect(self.page.get_by_role("button", name="Call", exact=True)).to_be_visible(timeout=self._limit_ms)

    async def wait_for_words(self, words: str) -> None:
        """Wait until the transcript shows these words."""
        await expect(self.page.locator("#transcript")).to_contain_text(words, timeout=self._limit_ms)

    async def wait_for_activity(self, text: str) -> None:
        """Wait until the state says, for instance, Speaking."""
        await expect(self.page.locator("#activity")).to_have_text(text, timeout=self._limit_ms)

    async def transcript(self) -> list[tuple[str, str]]:
        """All lines: (caller or agent, words)."""
        lines = await self.page.locator("#transcript li[data-turn]").all()
        return [(str(await line.get_attribute("data-turn")).split("-")[0], await _words(line)) for line in lines]

    async def problem(self) -> str:
        """Wait for the error message and return it."""
        await expect(self.page.get_by_role("alert")).to_be_visible(timeout=self._limit_ms)
        return await self.page.get_by_role("alert").inner_text()

    async def turn_totals(self) -> list[str]:
        """The response times shown, oldest first."""
        return await self.page.locator("#waterfall .total").all_inner_texts()

    async def heard(self) -> Heard:
        """What came out of the browser so far."""
        stats = await self.page.evaluate(INBOUND_AUDIO)
        return Heard(
            level=math.sqrt(stats["energy"] / stats["seconds"]) if stats["seconds"] else 0.0,
            seconds=stats["seconds"],
            packets=stats["packets"],
            jitter_s=stats["jitter_s"],
            buffered_s=stats["buffered_s"],
            concealed_ratio=stats["concealed"],
        )

    @property
    def _limit_ms(self) -> float:
        return self.limit_s * 1000


async def _words(line: Locator) -> str:
    return await line.locator("p").inner_text()


@contextlib.asynccontextmanager
async def open_call_page(
    url: str, microphone: Path, *, allows_microphone: bool = True, limit_s: float = 10.0
) -> AsyncIterator[CallPage]:
    """A browser on the page at `url` whose microphone plays the WAV file `microphone`, in a loop."""
    flags = [*FLAGS, f"--use-file-for-fake-audio-capture={microphone}"]
    if allows_microphone:
        flags.append("--use-fake-ui-for-media-stream")
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=flags)
        try:
            permissions = ["microphone"] if allows_microphone else []
            context = await browser.new_context(permissions=permissions, viewport={"width": 1280, "height": 860})
            page = await context.new_page()
            page.set_default_timeout(limit_s * 1000)
            await page.add_init_script(KEEP_CONNECTIONS)
            await page.goto(url)
            yield CallPage(page=page, limit_s=limit_s)
        finally:
            await browser.close()
