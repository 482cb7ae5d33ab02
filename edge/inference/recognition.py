"""What every recogniser returns, and the rules that keep invented text out of a conversation.

Whisper writes text for silence and noise ("Thank you.", "you"), repeats itself, and echoes the words it was biased
with. All of these start turns that nobody spoke (LESSONS.md 22), so they are dropped here, for every engine alike.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Event
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]

SAMPLE_RATE_HZ = 16_000
# Quieter than this over its loudest 100 ms, an utterance has no speech; telephone speech is at -40 dBFS or above.
SPEECH_FLOOR_DBFS = -58.0
_ENERGY_WINDOW_SAMPLES = 1_600
# Audio of less than this holds no word; Whisper invents one.
MIN_SPEECH_SAMPLES = 1_600
# openai/whisper transcribe.py uses 0.6 and -1.0 together.
NO_SPEECH_PROBABILITY = 0.6
NO_SPEECH_LOG_PROBABILITY = -1.0
# Worse than this on its own is noise.
HOPELESS_LOG_PROBABILITY = -1.6
# What Whisper says about nothing; real when it is sure, invented when it is not.
_SILENCE_WORDS = frozenset(
    {
        "", "you", "thank you", "thanks", "thanks for watching", "thank you for watching", "bye", "bye bye", "okay",
        "so", "oh", "uh", "um", "hmm", "mm", "yeah", "the", "i", "the end", "music", "applause", "silence",
        "blank audio", "thank you very much", "subtitles by the amara org community", "please subscribe", "beep",
        "ok", "ah", "a", "and", "eh", "shh", "thanks for listening", "well",
    }
)  # fmt: skip
SILENCE_WORDS_NO_SPEECH = 0.35
SILENCE_WORDS_LOG_PROBABILITY = -0.9
_ANNOTATION = re.compile(r"\[[^\]]*\]|\([^)]*\)|[♪♫*]")
_WORD = re.compile(r"[\w']+")
# A phrase repeated more often than this in a row is a decoding loop; digits may repeat.
MAX_REPEATS = 3
_SENTENCE_WORDS = 3
_LONGEST_LOOP_WORDS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognition:
    """Text of an utterance; empty when there was no speech in it."""

    text: str
    no_speech_probability: float
    average_log_probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecognitionOrder:
    """Samples are float32 in [-1, 1] at 16 kHz; the engine stops early once `cancelled` is set, if it can."""

    samples: Samples
    language: str
    hints: tuple[str, ...]
    cancelled: Event


class Recogniser(Protocol):
    """A speech recognition engine; blocking, called from worker threads."""

    def decode(self, order: RecognitionOrder) -> Recognition:
        """Return the raw text. Raises InvalidWorkError for a language it does not know."""


SILENT = Recognition(text="", no_speech_probability=1.0, average_log_probability=0.0)


def recognise(engine: Recogniser, order: RecognitionOrder) -> Recognition:
    """Recognise one utterance; text that was not spoken comes back empty."""
    if not has_speech_energy(order.samples):
        return SILENT
    return drop_invented(engine.decode(order), order.hints)


def samples_of(pcm: bytes) -> Samples:
    """Return int16 little-endian PCM as float samples in [-1, 1]."""
    return np.frombuffer(pcm, dtype="<i2").astype(np.float32) / 32768.0


def has_speech_energy(samples: Samples) -> bool:
    """Say whether any 100 ms is loud enough to be speech."""
    if len(samples) < MIN_SPEECH_SAMPLES:
        return False
    whole = len(samples) // _ENERGY_WINDOW_SAMPLES * _ENERGY_WINDOW_SAMPLES
    windows = samples[:whole].reshape(-1, _ENERGY_WINDOW_SAMPLES)
    # A constant offset is no sound.
    power = windows.var(axis=1).max()
    return bool(10.0 * np.log10(power + 1e-12) > SPEECH_FLOOR_DBFS)


def words_of(text: str) -> tuple[str, ...]:
    """Return the words in lower case, without punctuation."""
    return tuple(_WORD.findall(text.lower()))


def drop_invented(found: Recognition, hints: Sequence[str]) -> Recognition:
    """Return `found` with loops cut, and with no text where nothing was said."""
    text = cut_loops(" ".join(_ANNOTATION.sub(" ", found.text).split()))
    words = words_of(text)
    if not words or _is_invented(words, found) or _is_echo(words, found, hints):
        return replace(found, text="")
    return replace(found, text=text)


def _is_invented(words: tuple[str, ...], found: Recognition) -> bool:
    unsure = found.average_log_probability
    if unsure < HOPELESS_LOG_PROBABILITY:
        return True
    if found.no_speech_probability > NO_SPEECH_PROBABILITY and unsure < NO_SPEECH_LOG_PROBABILITY:
        return True
    if " ".join(words) not in _SILENCE_WORDS:
        return False
    return found.no_speech_probability > SILENCE_WORDS_NO_SPEECH or unsure < SILENCE_WORDS_LOG_PROBABILITY


def _is_echo(words: tuple[str, ...], found: Recognition, hints: Sequence[str]) -> bool:
    """One hint alone may well have been spoken; all of them in a row were not, nor one that was barely heard."""
    if not hints:
        return False
    if len(hints) > 1 and words == words_of(" ".join(hints)):
        return True
    is_hint = any(words == words_of(hint) for hint in hints)
    return is_hint and found.no_speech_probability > SILENCE_WORDS_NO_SPEECH


def cut_loops(text: str) -> str:
    """Cut a phrase that repeats itself: short ones when said more than MAX_REPEATS times, sentences when said twice."""
    words = text.split()
    plain = [" ".join(words_of(word)) for word in words]
    for length in range(1, _LONGEST_LOOP_WORDS + 1):
        allowed = MAX_REPEATS if length < _SENTENCE_WORDS else 1
        for start in range(len(words) - length * (allowed + 1) + 1):
            phrase = plain[start : start + length]
            repeats = _repeats(plain, start, length)
            if repeats > allowed and not any(char.isdigit() for word in phrase for char in word):
                return cut_loops(" ".join(words[: start + length] + words[start + repeats * length :]))
    return text


def _repeats(words: list[str], start: int, length: int) -> int:
    repeats = 1
    while words[start + repeats * length : start + (repeats + 1) * length] == words[start : start + length]:
        repeats += 1
    return repeats
