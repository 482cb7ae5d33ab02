"""Prepared audio: what the agent often says, synthesised ahead and kept by content.

A clip is named by the digest of voice and text, so a changed text or voice is a new clip and nothing ever goes stale.
Workers of a node share the directory; a clip appears under its name only when it is complete. What is synthesised
during calls is kept too, in memory, within a bound.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from tempfile import NamedTemporaryFile

from edge.call.ports import SAMPLE_RATE_HZ, Priority, Purpose, Synthesizer

# 64 MiB is 35 minutes of speech: every fixed sentence of a dozen agents.
MEMORY_BOUND_BYTES = 64 * 1024 * 1024
SYNTHESIS_BUDGET_S = 30.0
# Twice what the inference service does at once: it never waits for us.
SYNTHESES_AT_ONCE = 4


class PreparedAudio:
    """Clips by (voice, text): 16 kHz int16 mono.

    `model` identifies the synthesiser's voices (name and digest) so that a new model gives new clips. While `may_write`
    says no (a disk that gets full), new clips are kept in memory only.
    """

    def __init__(
        self, directory: Path, synthesizer: Synthesizer, *, model: str, may_write: Callable[[], bool] = lambda: True
    ) -> None:
        self._directory = directory
        self._synthesizer = synthesizer
        self._model = model
        self._may_write = may_write
        self._clips: OrderedDict[str, bytes] = OrderedDict()
        self._held_bytes = 0

    async def prepare(self, texts: Iterable[str], *, voice: str, tenant: str) -> int:
        """Make sure every text has a clip; returns how many had to be synthesised.

        Raises as Synthesizer does.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        purpose = Purpose(tenant=tenant, call_id="", priority=Priority.SHADOW, budget_s=SYNTHESIS_BUDGET_S)
        missing = [text for text in dict.fromkeys(texts) if self.clip(text, voice=voice) is None]
        for start in range(0, len(missing), SYNTHESES_AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for text in missing[start : start + SYNTHESES_AT_ONCE]:
                    group.create_task(self._make(text, purpose, voice), name="prepare")
        return len(missing)

    def clip(self, text: str, *, voice: str) -> bytes | None:
        """The clip of this text, or None when it was never made."""
        key = self._key(text, voice)
        if key in self._clips:
            self._clips.move_to_end(key)
            return self._clips[key]
        try:
            pcm = (self._directory / f"{key}.pcm").read_bytes()
        except FileNotFoundError:
            return None
        self._keep(key, pcm)
        return pcm

    async def speech(self, text: str, purpose: Purpose, *, voice: str) -> AsyncIterator[bytes]:
        """The text as audio: at once when prepared, else synthesised, first clause first, and kept."""
        prepared = self.clip(text, voice=voice)
        if prepared is not None:
            yield prepared
            return
        pieces = []
        async for piece in self._synthesizer.synthesize(text, purpose, voice=voice):
            pieces.append(piece)
            yield piece
        self._keep(self._key(text, voice), b"".join(pieces))

    async def _make(self, text: str, purpose: Purpose, voice: str) -> None:
        pcm = b"".join([piece async for piece in self._synthesizer.synthesize(text, purpose, voice=voice)])
        self._write(self._key(text, voice), pcm)

    def _key(self, text: str, voice: str) -> str:
        return hashlib.sha256(f"{self._model}\0{voice}\0{SAMPLE_RATE_HZ}\0{text}".encode()).hexdigest()

    def _keep(self, key: str, pcm: bytes) -> None:
        if key in self._clips:
            return
        self._clips[key] = pcm
        self._held_bytes += len(pcm)
        while self._held_bytes > MEMORY_BOUND_BYTES:
            _, dropped = self._clips.popitem(last=False)
            self._held_bytes -= len(dropped)

    def _write(self, key: str, pcm: bytes) -> None:
        if self._may_write():
            self._write_file(key, pcm)
        self._keep(key, pcm)

    def _write_file(self, key: str, pcm: bytes) -> None:
        with NamedTemporaryFile(dir=self._directory, prefix=".", delete=False) as partial:
            partial.write(pcm)
        Path(partial.name).replace(self._directory / f"{key}.pcm")
