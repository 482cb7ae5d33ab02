"""The voices of simulated callers: lines synthesised ahead and kept by content under `.state/bench/lines`.

Owns how a caller sounds. Every caller is a variation of one Piper voice, faster or slower and higher or lower, drawn
from the call's seed, so that a run is repeatable and callers differ from the agent and from each other. Audio is
int16 mono at 16 kHz, silence at both ends cut off (the end of a file is the end of speech), at the usual level of a
telephone.
"""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray
from piper import PiperVoice, SynthesisConfig

from bench.errors import JudgeMissingError
from bench.recording import Samples, read_wav, speech_spans, write_wav

RATE_HZ = 16_000
# Changes whenever the sound of a cached line would.
VERSION = "1"
SPEECH_DBFS = -22.0
TEMPOS = (0.9, 1.0, 1.1)
PITCHES = (0.92, 1.0, 1.08)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerVoice:
    """How one caller speaks: 1.0 is the voice as it was recorded; `tempo` 1.1 is faster, `pitch` 1.1 higher."""

    tempo: float
    pitch: float


def voice_of(seed: int) -> CallerVoice:
    """The voice of the caller with this seed."""
    # Not a secret: the same seed must give the same caller.
    drawn = random.Random(seed)  # noqa: S311
    return CallerVoice(tempo=drawn.choice(TEMPOS), pitch=drawn.choice(PITCHES))


class Speaker(Protocol):
    """Turns text into speech."""

    def speak(self, text: str, voice: CallerVoice) -> Samples:
        """Speech at 16 kHz, both ends tight."""


class PiperSpeaker:
    """A Piper voice, loaded when it first speaks."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._loaded: PiperVoice | None = None

    def speak(self, text: str, voice: CallerVoice) -> Samples:
        """Speech at 16 kHz, both ends tight. Raises JudgeMissingError when the voice is not there."""
        if self._loaded is None:
            if not self._model.is_file():
                raise JudgeMissingError(f"the voice {self._model} is missing")
            self._loaded = PiperVoice.load(self._model)
        # Resampling by `pitch` also changes the tempo; the voice makes up for it beforehand.
        config = SynthesisConfig(length_scale=voice.pitch / voice.tempo)
        chunks = [chunk.audio_float_array for chunk in self._loaded.synthesize(text, config)]
        spoken_hz = self._loaded.config.sample_rate * voice.pitch
        return tightened(soxr.resample(np.concatenate(chunks), spoken_hz, RATE_HZ), RATE_HZ)


class LineCache:
    """Lines by content; what is not there yet is spoken by `speaker`."""

    def __init__(self, directory: Path, speaker: Speaker) -> None:
        self._directory = directory
        self._speaker = speaker

    def line(self, text: str, voice: CallerVoice) -> Samples:
        """The line as this caller says it."""
        path = self._directory / f"{_digest(text, voice)}.wav"
        if not path.exists():
            with _written_whole(path) as partial:
                write_wav(partial, self._speaker.speak(text, voice), RATE_HZ)
        return read_wav(path)[1]

    def has(self, text: str, voice: CallerVoice) -> bool:
        """Whether the line need not be synthesised."""
        return (self._directory / f"{_digest(text, voice)}.wav").exists()


def line_from_file(path: Path) -> Samples:
    """A caller's line from any audio file, mono, at 16 kHz and the usual level."""
    try:
        samples, rate_hz = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise JudgeMissingError(f"{path} cannot be read: {error}") from error
    return tightened(soxr.resample(samples.mean(axis=1), rate_hz, RATE_HZ), RATE_HZ)


def tightened(speech: NDArray[np.float32], rate_hz: int) -> Samples:
    """Cut silence from both ends and bring speech to the usual level."""
    rms = float(np.sqrt(np.mean(np.square(speech)))) if len(speech) else 0.0
    if rms <= 1e-6:
        return np.zeros(0, np.int16)
    gained = speech * (10 ** (SPEECH_DBFS / 20) / rms)
    samples: Samples = np.clip(gained * 32768, -32767, 32767).astype(np.int16)
    spans = speech_spans(samples, rate_hz, merge_gap_s=60.0)
    if not spans:
        return samples
    # 20 ms of what the ear calls silence stay on, so that no consonant is clipped.
    margin_s = 0.02
    start = max(0, round((spans[0].start_s - margin_s) * rate_hz))
    return samples[start : round((spans[-1].end_s + margin_s) * rate_hz)]


def cough(seed: int) -> Samples:
    """A cough: two bursts of noise, shaped as a throat shapes them. About 350 ms."""
    rng = np.random.default_rng(seed)
    pieces = []
    for length_s, level in ((0.16, 1.0), (0.05, 0.0), (0.14, 0.6)):
        count = round(length_s * RATE_HZ)
        noise = rng.normal(0, 1, count + 8)
        # The mean of neighbours darkens the noise: a throat is no hiss.
        dark = np.convolve(noise, np.ones(9) / 3, mode="valid")
        envelope = np.exp(-np.linspace(0, 4, count)) * np.minimum(1, np.arange(count) / (0.01 * RATE_HZ))
        pieces.append(dark * envelope * level)
    sound = np.concatenate(pieces)
    samples: Samples = (sound / np.abs(sound).max() * 32768 * 0.4).astype(np.int16)
    return samples


def _digest(text: str, voice: CallerVoice) -> str:
    return hashlib.sha256(f"{VERSION}|{voice.tempo}|{voice.pitch}|{text}".encode()).hexdigest()[:32]


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """A file that appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    yield partial
    partial.replace(path)
