"""The agent's voice on one call: sends clips to the leg, knows what the caller has really heard.

Only marks count as heard: a sentence that was sent, or is still queued in Asterisk when the caller barges in, was not
said. The generation number in a mark's name discards marks of a reply that has been flushed.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from edge.call.ports import SAMPLE_RATE_HZ, MediaLeg
from edge.conversation.dialogue import Speech
from edge.turn.heard import Clip, heard_text

# 200 ms of audio a mark: fine enough to know which words were heard, cheap enough for a hundred calls.
PIECE_BYTES = 6_400
SAMPLE_BYTES = 2
# Piper's joe speaks 15 characters a second.
SAMPLES_PER_CHARACTER = SAMPLE_RATE_HZ / 15
# Between two sentences of one reply.
SENTENCE_GAP = bytes(2 * 1_920)
# Asterisk reports a mark when it is due; more than this late means that the playout is stuck.
PLAYOUT_GRACE_S = 3.0

ClipSource = Callable[[Speech], AsyncIterator[bytes]]


@dataclass(slots=True, kw_only=True)
class SpokenClip:
    """One sentence on its way to the caller; `total_samples` grows until the whole clip was sent."""

    text: str
    total_samples: int = 0
    heard_samples: int = 0
    is_sent: bool = False

    def as_sent(self) -> Clip:
        """The clip for the ledger of heard words. While it is still being synthesised its length is guessed from its
        text, so that the words of its end never count too early."""
        guessed = int(len(self.text) * SAMPLES_PER_CHARACTER)
        samples = self.total_samples if self.is_sent else max(self.total_samples, guessed)
        return Clip(text=self.text, samples=samples)


@dataclass(slots=True)
class AgentVoice:
    """Speaks one reply at a time over `leg`. `is_silent`: the last reply came to its end, or broke, without a sound."""

    leg: MediaLeg
    clips: list[SpokenClip] = field(default_factory=list)
    is_speaking: bool = False
    is_silent: bool = False
    _generation: int = 0
    _progress: asyncio.Event = field(default_factory=asyncio.Event)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def say(self, speeches: Sequence[Speech], source: ClipSource, *, on_first_audio: Callable[[], None]) -> None:
        """Send all clips; returns when the caller has heard the last one. What is said already is said to its end.

        Raises whatever `source` raises, and TimeoutError when the playout is stuck. On cancellation the caller decides
        between `silence` and letting the queue play out.
        """
        async with self._turn:
            await self._say(speeches, source, on_first_audio)

    async def _say(self, speeches: Sequence[Speech], source: ClipSource, on_first_audio: Callable[[], None]) -> None:
        self._generation += 1
        generation = self._generation
        self.clips = []
        self.is_speaking = True
        self.is_silent = False
        is_first = True
        try:
            for speech in speeches:
                clip = SpokenClip(text=speech.text)
                if self.clips:
                    await self.leg.send(SENTENCE_GAP)
                self.clips.append(clip)
                async for pcm in source(speech):
                    if is_first:
                        on_first_audio()
                        is_first = False
                    await self._send(clip, pcm)
                clip.is_sent = True
            self.is_silent = self._is_without_sound
            await self._until_heard()
        except Exception:
            self.is_silent = self._is_without_sound
            raise
        finally:
            if generation == self._generation:
                self.is_speaking = False

    @property
    def remaining_s(self) -> float:
        """Seconds of what was sent that the caller has not heard yet."""
        return sum(clip.total_samples - clip.heard_samples for clip in self.clips) / SAMPLE_RATE_HZ

    @property
    def heard_text(self) -> str:
        """The words of the reply that the caller has heard."""
        parts = (heard_text([clip.as_sent()], clip.heard_samples) for clip in self.clips)
        return " ".join(part for part in parts if part)

    @property
    def _is_without_sound(self) -> bool:
        return bool(self.clips) and not any(clip.total_samples for clip in self.clips)

    async def silence(self) -> None:
        """Stop at once; what was not heard will never be."""
        self._generation += 1
        self.is_speaking = False
        await self.leg.flush()

    def reached(self, mark: str) -> None:
        """Credit what the caller has heard (a PlayoutReached of the leg)."""
        generation, index, samples = (int(part) for part in mark.split("."))
        if generation == self._generation:
            self.clips[index].heard_samples = samples
            self._progress.set()

    async def _send(self, clip: SpokenClip, pcm: bytes) -> None:
        for start in range(0, len(pcm), PIECE_BYTES):
            piece = pcm[start : start + PIECE_BYTES]
            clip.total_samples += len(piece) // SAMPLE_BYTES
            await self.leg.send(piece)
            await self.leg.mark(f"{self._generation}.{len(self.clips) - 1}.{clip.total_samples}")

    async def _until_heard(self) -> None:
        while any(clip.heard_samples < clip.total_samples for clip in self.clips):
            self._progress.clear()
            async with asyncio.timeout(PLAYOUT_GRACE_S + 2.0):
                await self._progress.wait()
