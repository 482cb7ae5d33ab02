"""Recognition over a telephone: our engine and faster-whisper on the same weights, file by file in turn.

Owns corpora, the telephone band and the comparison. Both engines get the same samples (8 kHz mu-law and back to
16 kHz), decode greedily on the same number of threads, and take turns file by file, so that a busy moment of the
machine meets both. Speed is the median over files of their time against ours, on files of at most eight seconds:
longer ones are no caller's turn.
"""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import soundfile
import soxr
from faster_whisper import WhisperModel
from numpy.typing import NDArray

from bench import g711
from bench.errors import JudgeMissingError
from bench.report import hardware
from bench.statistics import WordErrors, total, word_errors
from bench.words import words
from edge.inference.models import load_recogniser
from edge.inference.recognition import Recogniser, RecognitionOrder, recognise
from edge.inference.settings import AsrSettings

MODEL_HZ = 16_000
TRUNK_HZ = 8_000
LONGEST_TURN_S = 8.0
LONGEST_FILE_S = 28.0
SILENCE_S = (0.5, 1.0, 3.0, 8.0)
NOISE_DBFS = (-60.0, -45.0, -30.0)
WORDS_PER_S = 3.0
# A phrase heard this often in a row is a loop.
LOOP_REPEATS = 4

Audio = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechFile:
    """One recording; `transcript` is None where nobody speaks."""

    corpus: str
    name: str
    transcript: str | None
    audio: Audio

    @property
    def length_s(self) -> float:
        return len(self.audio) / MODEL_HZ


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What both engines made of a file, and how long each took."""

    file: SpeechFile
    ours: str
    theirs: str
    our_s: float
    their_s: float


def telephone_band(audio: Audio, rate_hz: int) -> Audio:
    """What a mu-law trunk leaves of it, at 16 kHz."""
    narrow = soxr.resample(audio, rate_hz, TRUNK_HZ) if rate_hz != TRUNK_HZ else audio
    codes = g711.encode((np.clip(narrow, -1, 1) * 32767).astype(np.int16))
    wide: Audio = soxr.resample(g711.decode(codes).astype(np.float32) / 32768, TRUNK_HZ, MODEL_HZ).astype(np.float32)
    return wide


def speech_files(folder: Path, limit: int | None) -> Iterator[SpeechFile]:
    """The corpora of the manifest that have transcripts, at most `limit` files each. Raises JudgeMissingError."""
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        raise JudgeMissingError(f"there is no speech in {folder}: recognition is not measured")
    taken: dict[str, int] = {}
    for entry in json.loads(manifest.read_text(encoding="utf-8")):
        corpus = entry["set"]
        is_english = str(entry["language"]).startswith("en")
        if not entry["transcript"] or not is_english or entry["duration_s"] > LONGEST_FILE_S:
            continue
        if limit is not None and taken.get(corpus, 0) >= limit:
            continue
        taken[corpus] = taken.get(corpus, 0) + 1
        audio, rate_hz = soundfile.read(str(folder / entry["path"]), dtype="float32")
        yield SpeechFile(
            corpus=corpus, name=entry["path"], transcript=entry["transcript"], audio=telephone_band(audio, rate_hz)
        )


def speechless_files(folder: Path) -> Iterator[SpeechFile]:
    """Silence, noise at three levels, a hum, and the noise recordings of the folder: nobody speaks in any of them."""
    rng = np.random.default_rng(1)
    for length_s in SILENCE_S:
        count = int(length_s * MODEL_HZ)
        tones = {f"noise{level:.0f}": rng.normal(0, 10 ** (level / 20), count) for level in NOISE_DBFS}
        hum = 0.02 * np.sin(2 * np.pi * 60 * np.arange(count) / MODEL_HZ)
        for name, audio in {"silence": np.zeros(count), "hum": hum, **tones}.items():
            band = telephone_band(audio.astype(np.float32), MODEL_HZ)
            yield SpeechFile(corpus="speechless", name=f"{name}-{length_s}s", transcript=None, audio=band)
    for path in sorted((folder / "noise-rir").glob("noise*.flac")):
        audio, rate_hz = soundfile.read(str(path), dtype="float32")
        yield SpeechFile(corpus="speechless", name=path.name, transcript=None, audio=telephone_band(audio, rate_hz))


def compare_engines(
    files: Sequence[SpeechFile], store: Path, model: str, threads: int, progress: Callable[[int, int], None]
) -> list[Outcome]:
    """Let both engines recognise every file, in turn."""
    _, engine = load_recogniser(store, AsrSettings(model=model, workers=1, threads=threads))
    other = WhisperModel(str(store / model), device="cpu", compute_type="int8", cpu_threads=threads, num_workers=1)
    _theirs(other, np.zeros(MODEL_HZ, np.float32))
    outcomes = []
    for index, file in enumerate(files):
        # Whoever goes second finds warm caches: they change places with every file.
        if index % 2:
            (theirs, their_s), (ours, our_s) = _timed(_theirs, other, file.audio), _timed(_ours, engine, file.audio)
        else:
            (ours, our_s), (theirs, their_s) = _timed(_ours, engine, file.audio), _timed(_theirs, other, file.audio)
        outcomes.append(Outcome(file=file, ours=ours, theirs=theirs, our_s=our_s, their_s=their_s))
        progress(index + 1, len(files))
    return outcomes


def summarise_recognition(outcomes: Sequence[Outcome], model: str, threads: int) -> dict[str, Any]:
    """The report of `borough bench recognition --json`."""
    spoken = [outcome for outcome in outcomes if outcome.file.transcript is not None]
    silent = [outcome for outcome in outcomes if outcome.file.transcript is None]
    short = [outcome for outcome in spoken if outcome.file.length_s <= LONGEST_TURN_S]
    corpora = sorted({outcome.file.corpus for outcome in spoken})
    return {
        "model": model,
        "threads": threads,
        "word_error_rate": {
            corpus: _corpus([outcome for outcome in spoken if outcome.file.corpus == corpus]) for corpus in corpora
        },
        "all": _corpus(spoken),
        "speed_ratio_median": _median([outcome.their_s / outcome.our_s for outcome in short]),
        "our_ms_median": _median([outcome.our_s * 1000 for outcome in short]),
        "their_ms_median": _median([outcome.their_s * 1000 for outcome in short]),
        "hallucinated": {
            "files": len(silent),
            "ours": [[outcome.file.name, outcome.ours] for outcome in silent if words(outcome.ours)],
            "theirs": [[outcome.file.name, outcome.theirs] for outcome in silent if words(outcome.theirs)],
        },
        "longest_loop_s": {
            "ours": max((loop_s(outcome.ours) for outcome in outcomes), default=0.0),
            "theirs": max((loop_s(outcome.theirs) for outcome in outcomes), default=0.0),
        },
        "slowest_ours_s": round(max((outcome.our_s for outcome in outcomes), default=0.0), 3),
        "hardware": hardware(),
        "method": __doc__,
    }


def loop_s(text: str) -> float:
    """How long the longest repetition of a phrase of one to eight words would take to say, at 3 words a second."""
    listed = words(text)
    longest = 0
    for length in range(1, 9):
        for start in range(len(listed) - length):
            repeats = 1
            while listed[start + repeats * length : start + (repeats + 1) * length] == listed[start : start + length]:
                repeats += 1
            if repeats >= LOOP_REPEATS and not all(word.isdigit() for word in listed[start : start + length]):
                longest = max(longest, (repeats - 1) * length)
    return round(longest / WORDS_PER_S, 2)


def _corpus(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    ours, theirs = (
        total(word_errors(words(outcome.file.transcript or ""), words(text)) for outcome, text in pairs)
        for pairs in ([(one, one.ours) for one in outcomes], [(one, one.theirs) for one in outcomes])
    )
    return {"files": len(outcomes), "words": ours.words, "ours": _percent(ours), "theirs": _percent(theirs)}


def _percent(errors: WordErrors) -> float | None:
    return round(100 * errors.rate, 2) if errors.rate is not None else None


def _median(values: Sequence[float]) -> float | None:
    return round(statistics.median(values), 2) if values else None


def _timed(run: Callable[[Any, Audio], str], engine: object, audio: Audio) -> tuple[str, float]:
    began = time.perf_counter()
    text = run(engine, audio)
    return text, time.perf_counter() - began


def _ours(engine: Recogniser, audio: Audio) -> str:
    return recognise(engine, RecognitionOrder(samples=audio, language="en", hints=(), cancelled=Event())).text


def _theirs(engine: WhisperModel, audio: Audio) -> str:
    segments, _ = engine.transcribe(audio, language="en", beam_size=1, condition_on_previous_text=False)
    return " ".join(segment.text.strip() for segment in segments)
