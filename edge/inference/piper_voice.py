"""A Piper voice: text to 16 kHz speech, clause by clause, level and free of dead air.

Piper's own normalisation scales every clip to full range, so a quiet "okay" comes out louder than a long sentence.
Here one gain per voice is measured when it is loaded, and peaks above it are rounded off.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import onnxruntime
import soxr
from numpy.typing import NDArray
from piper import PiperVoice
from piper.config import PiperConfig, SynthesisConfig

from edge.inference.errors import ModelLoadError, NoAudioError
from edge.inference.model_store import VerifiedModel
from edge.inference.spoken_text import spoken

SAMPLE_RATE_HZ = 16_000
# Level of speech while it sounds; telephone networks expect about this (ITU-T P.56: -26 dBov and louder prompts).
TARGET_DBFS = -21.0
# Where the limiter begins to round peaks off.
_KNEE = 0.7
# Sound starts where it is 36 dB below the clip's peak, and this much before it is kept.
_ONSET_RATIO = 0.016
LEAD_S = 0.010
# Silence left after a clause and after the whole text.
CLAUSE_PAUSE_S = 0.14
SENTENCE_PAUSE_S = 0.26
TAIL_S = 0.05
# A first clause of fewer letters is not worth a clip of its own: it would sound clipped.
MIN_CLAUSE_CHARS = 12
_CLAUSE = re.compile(r"(?<=[.!?;:,—])\s+")
_CALIBRATION = "Thanks for calling, how can I help you today?"

Samples = NDArray[np.float32]


def clauses_of(text: str) -> list[str]:
    """Split text where a speaker breathes; no clause is shorter than MIN_CLAUSE_CHARS unless the text is."""
    clauses: list[str] = []
    for piece in _CLAUSE.split(text.strip()):
        is_joined = clauses and (len(clauses[-1]) < MIN_CLAUSE_CHARS or len(piece) < MIN_CLAUSE_CHARS)
        if is_joined:
            clauses[-1] = f"{clauses[-1]} {piece}"
        elif piece:
            clauses.append(piece)
    return clauses


def clause_count(text: str) -> int:
    """How many clauses a voice makes of a text."""
    return len(clauses_of(spoken(text)))


def trim(samples: Samples, rate_hz: int, *, tail_s: float) -> Samples:
    """Cut silence off both ends, keeping LEAD_S before the sound and `tail_s` after it (silence is added if short)."""
    loudness = np.abs(samples)
    sounding = np.flatnonzero(loudness > _ONSET_RATIO * loudness.max(initial=0.0))
    if len(sounding) == 0:
        return samples[:0]
    start = max(0, int(sounding[0]) - int(LEAD_S * rate_hz))
    end = int(sounding[-1]) + 1
    tail = int(tail_s * rate_hz)
    kept = samples[start : end + tail]
    return np.pad(kept, (0, end + tail - start - len(kept)))


def active_rms(samples: Samples, rate_hz: int) -> float:
    """Return the level of the louder half of 20 ms frames, which is where speech sounds."""
    frame = rate_hz // 50
    frames = samples[: len(samples) // frame * frame].reshape(-1, frame)
    powers = np.sort(np.square(frames).mean(axis=1))[len(frames) // 2 :]
    return float(np.sqrt(powers.mean())) if len(powers) else 0.0


def limit(samples: Samples) -> Samples:
    """Round peaks above _KNEE off towards full scale, so that nothing clips."""
    loudness = np.abs(samples)
    over = _KNEE + (1.0 - _KNEE) * np.tanh((loudness - _KNEE) / (1.0 - _KNEE))
    return np.where(loudness > _KNEE, np.sign(samples) * over, samples).astype(np.float32)


def _load(model: VerifiedModel, threads: int) -> PiperVoice:
    onnx: Path = model.file(".onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would take the cores from recognition.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        config = PiperConfig.from_dict(json.loads(model.file(".onnx.json").read_text(encoding="utf-8")))
        session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    # onnxruntime raises its own classes, which derive from Exception only.
    except Exception as error:
        raise ModelLoadError(f"{onnx}: {error}", hint=f"borough models fetch {model.manifest.name}") from error
    return PiperVoice(session=session, config=config)


class Voice:
    """Blocking; may be used by several threads at once."""

    def __init__(self, model: VerifiedModel, *, threads: int) -> None:
        """Load, warm up and measure the voice. Raises ModelLoadError or NoAudioError."""
        self._piper = _load(model, threads)
        self._rate_hz = int(self._piper.config.sample_rate)
        self.name = model.manifest.name
        raw = self._raw(_CALIBRATION)
        self._gain = 10 ** (TARGET_DBFS / 20) / max(active_rms(raw, self._rate_hz), 1e-4)

    def synthesize(self, text: str, cancelled: Event, *, first_clause: int = 0) -> Iterator[bytes]:
        """Yield int16 PCM at 16 kHz, a clause at a time; stops when `cancelled`. Raises NoAudioError."""
        clauses = clauses_of(spoken(text))
        if not clauses[first_clause:]:
            raise NoAudioError(f"there is nothing to say in {text!r} from clause {first_clause}")
        for index, clause in enumerate(clauses[first_clause:], first_clause):
            if cancelled.is_set():
                return
            is_last = index == len(clauses) - 1
            pause_s = SENTENCE_PAUSE_S if clause[-1] in ".!?" else CLAUSE_PAUSE_S
            yield self._finish(self._raw(clause), TAIL_S if is_last else pause_s)

    def _raw(self, clause: str) -> Samples:
        config = SynthesisConfig(normalize_audio=False)
        chunks = [chunk.audio_float_array for chunk in self._piper.synthesize(clause, config)]
        if not chunks or not np.any(np.abs(np.concatenate(chunks)) > 1e-3):
            raise NoAudioError(f"the voice {self.name} said nothing")
        return np.concatenate(chunks)

    def _finish(self, raw: Samples, tail_s: float) -> bytes:
        level = limit(trim(raw, self._rate_hz, tail_s=tail_s) * self._gain)
        audio = soxr.resample(level, self._rate_hz, SAMPLE_RATE_HZ, quality="MQ")
        pcm: bytes = (np.clip(audio, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()
        return pcm
