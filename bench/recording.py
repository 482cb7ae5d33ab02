"""Finds speech in the two sides of a carrier recording.

Owns the ear of the bench: level per frame, the adaptive floor, where speech begins and ends. It knows samples and
seconds, not scenarios or calls (`bench.exchange` pairs the two sides).

Method. The level of every 10 ms frame is compared with a floor that follows the quietest twentieth of the ten seconds
around it, so that comfort noise or a noisy line raises the bar. A stretch is speech when it holds 30 ms well above
the floor; its ends are then looked for outwards at a lower bar, and inside the border frame in steps of 2.5 ms,
because whole frames would make a pause between two speakers look up to 20 ms shorter than it is. Mu-law idle codes
decode to +-8 (-72 dBFS), far below every bar.
"""

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.errors import RecordingError

HOP_MS = 10
STEPS_PER_HOP = 4  # 2.5 ms
FLOOR_WINDOW_S = 10.0
FLOOR_PERCENTILE = 5
# A digital line is silent to the last bit; a floor lower than this would call dither speech.
QUIETEST_FLOOR_DBFS = -68.0
# A floor above this is speech that fills the whole window, not noise.
LOUDEST_FLOOR_DBFS = -40.0
EDGE_ABOVE_FLOOR_DB = 10.0
CORE_ABOVE_FLOOR_DB = 18.0
CORE_FRAMES = 3
SILENCE_DBFS = -100.0

Samples = NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time, in seconds from the start of the recording."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Both sides of a call from its answer on, sample for sample at the same time (int16 mono).

    `caller` is what the caller sent, `agent` is what the caller heard.
    """

    rate_hz: int
    caller: Samples
    agent: Samples

    @property
    def length_s(self) -> float:
        return max(len(self.caller), len(self.agent)) / self.rate_hz


def read_wav(path: Path) -> tuple[int, Samples]:
    """Rate and samples of a 16-bit mono WAV; a header that Asterisk never completed is tolerated."""
    try:
        with wave.open(str(path), "rb") as file:
            if file.getnchannels() != 1 or file.getsampwidth() != 2:
                raise RecordingError(f"{path} is not 16-bit mono")
            return file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")
    except (OSError, EOFError, wave.Error) as error:
        raise RecordingError(f"{path} cannot be read: {error}") from error


def read_recording(caller: Path, agent: Path) -> Recording:
    """Read the two files of one call; raises RecordingError when they do not belong together."""
    caller_hz, caller_samples = read_wav(caller)
    agent_hz, agent_samples = read_wav(agent)
    if caller_hz != agent_hz:
        raise RecordingError(f"{caller} has {caller_hz} Hz, {agent} {agent_hz} Hz")
    return Recording(rate_hz=caller_hz, caller=caller_samples, agent=agent_samples)


def write_wav(path: Path, samples: Samples, rate_hz: int) -> None:
    """Write 16-bit mono."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(samples.astype("<i2").tobytes())


def levels_dbfs(samples: Samples, samples_per_frame: int) -> NDArray[np.float64]:
    """RMS level of each whole frame relative to full scale; the mean of a frame (DC) is not level."""
    count = len(samples) // samples_per_frame
    frames = samples[: count * samples_per_frame].reshape(count, samples_per_frame).astype(np.float64) / 32768.0
    rms = np.sqrt(np.mean(np.square(frames), axis=1)) if count else np.zeros(0)
    floor = 10 ** (SILENCE_DBFS / 20)
    levels: NDArray[np.float64] = 20 * np.log10(np.maximum(rms, floor))
    return levels


def noise_floor_dbfs(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """The floor under each 10 ms frame: the quietest tenth of the six seconds around it."""
    half = int(FLOOR_WINDOW_S * 1000 / HOP_MS / 2)
    # The floor moves slowly: one value per half second is enough, and keeps this linear.
    centres = np.arange(0, len(levels), 500 // HOP_MS)
    values = [np.percentile(levels[max(0, c - half) : c + half], FLOOR_PERCENTILE) for c in centres]
    floor: NDArray[np.float64] = np.interp(np.arange(len(levels)), centres, values) if len(levels) else np.zeros(0)
    return np.clip(floor, QUIETEST_FLOOR_DBFS, LOUDEST_FLOOR_DBFS)


def speech_spans(samples: Samples, rate_hz: int, *, merge_gap_s: float) -> tuple[Span, ...]:
    """Stretches of speech in order; pauses shorter than `merge_gap_s` belong to the speech around them."""
    hop = rate_hz * HOP_MS // 1000
    centred = _without_dc(samples)
    levels = levels_dbfs(centred, hop)
    floor = noise_floor_dbfs(levels)
    runs = _runs(levels >= floor + EDGE_ABOVE_FLOOR_DB)
    loud = levels >= floor + CORE_ABOVE_FLOOR_DB
    spans = [
        _refined(centred, rate_hz, first, last, floor) for first, last in runs if _has_core(loud[first : last + 1])
    ]
    return _merged(spans, merge_gap_s)


def _without_dc(samples: Samples) -> Samples:
    if not len(samples):
        return samples
    return np.clip(samples.astype(np.int32) - round(float(np.mean(samples))), -32768, 32767).astype(np.int16)


def _runs(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], active.astype(np.int8), [0]))))
    return [(int(start), int(end) - 1) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def _has_core(loud: NDArray[np.bool_]) -> bool:
    """A click or a lost packet's edge is loud for one or two frames, a syllable for longer."""
    return any(last - first + 1 >= CORE_FRAMES for first, last in _runs(loud))


def _refined(samples: Samples, rate_hz: int, first: int, last: int, floor: NDArray[np.float64]) -> Span:
    """The ends of a run of frames, to 2.5 ms."""
    hop = rate_hz * HOP_MS // 1000
    step = hop // STEPS_PER_HOP
    head = levels_dbfs(samples[first * hop : (first + 1) * hop], step) >= floor[first] + EDGE_ABOVE_FLOOR_DB
    tail = levels_dbfs(samples[last * hop : (last + 1) * hop], step) >= floor[last] + EDGE_ABOVE_FLOOR_DB
    start = first * hop + int(np.argmax(head)) * step
    end = (last + 1) * hop - int(np.argmax(tail[::-1])) * step
    return Span(start_s=start / rate_hz, end_s=end / rate_hz)


def _merged(spans: list[Span], gap_s: float) -> tuple[Span, ...]:
    merged: list[Span] = []
    for span in spans:
        if merged and span.start_s - merged[-1].end_s < gap_s:
            merged[-1] = Span(start_s=merged[-1].start_s, end_s=span.end_s)
        else:
            merged.append(span)
    return tuple(merged)
