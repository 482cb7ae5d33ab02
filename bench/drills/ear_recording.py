"""What one caller hears and says, on the caller's own clock.

A recording that Asterisk makes stands still while neither side sends, which is when a drill looks: here every frame
lies where it reached the ear, and what never came is silence. Frames that come in a burst are played one after the
other, as a telephone does, until a pause lets it catch up.
"""

from pathlib import Path

import numpy as np

from bench import g711
from bench.caller import SPEECH_DBFS, level_dbfs
from bench.recording import Samples, write_wav

RATE_HZ = 8000
# Later than this, a frame is a gap in what is heard and not the network's unevenness.
JITTER_S = 0.06


class EarRecording:
    """Mu-law of both sides; `since_s` is the loop's time at which it begins, all times are the loop's."""

    def __init__(self, since_s: float) -> None:
        self._since_s = since_s
        self._heard: list[tuple[int, bytes]] = []
        self._said: list[tuple[int, bytes]] = []
        self._end = 0

    def hear(self, codes: bytes, at_s: float) -> None:
        """A frame reached the ear."""
        arrived = max(0, round((at_s - self._since_s) * RATE_HZ))
        if arrived - self._end > JITTER_S * RATE_HZ:
            self._end = arrived
        elif self._end - arrived > JITTER_S * RATE_HZ and level_dbfs(codes) < SPEECH_DBFS:
            return
        self._heard.append((self._end, codes))
        self._end += len(codes)

    def say(self, codes: bytes, at_s: float) -> None:
        """The caller's words begin to be sent."""
        self._said.append((max(0, round((at_s - self._since_s) * RATE_HZ)), codes))

    def write(self, spoken: Path, heard: Path, until_s: float) -> None:
        """Two files of the same length (int16 mono, 8 kHz)."""
        length = max(0, round((until_s - self._since_s) * RATE_HZ))
        spoken.parent.mkdir(parents=True, exist_ok=True)
        write_wav(spoken, _laid_out(self._said, length), RATE_HZ)
        write_wav(heard, _laid_out(self._heard, length), RATE_HZ)


def _laid_out(pieces: list[tuple[int, bytes]], length: int) -> Samples:
    samples = np.zeros(max([length, *(start + len(codes) for start, codes in pieces)]), dtype=np.int16)
    for start, codes in pieces:
        samples[start : start + len(codes)] = g711.decode(codes)
    return samples[:length]
