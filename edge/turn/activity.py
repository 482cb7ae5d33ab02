"""From the caller's audio to `SpeechStarted`, `SpeechPaused`, `SpeechResumed`, and the audio of the utterance.

Theory of operation. Audio of any size is cut into hops of 8 ms, whose level is compared with the line's noise floor
and the loudness of this speaker, and into chunks of 32 ms, which a `SpeechDetector` judges. The detector says
*whether* it is speech; it is 60-100 ms late at the end of a word. The levels say *when*: on a quiet line they show
the end to a hop. A stretch counts as speech while both agree.

    QUIET --(speech for start_s)--> SPEAKING --(no speech for pause_s)--> PAUSED --(speech)--> SPEAKING
      ^                                                                     |
      +--(released by the session, and silent for merge_window_s)-----------+

A pause is only the moment to begin recognising; whether the turn is over is decided by `endpointing`. So an utterance
stays open until the session releases it, and for `merge_window_s` beyond: a caller who goes on right after a premature
decision continues the same utterance, whose audio is still whole.

Positions count samples received. Events depend on the samples alone, never on how they were cut into frames. When
frames stop arriving, `starve` lets the silence take effect, so speech never stays open for want of audio.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from edge.turn.level import SILENCE_DBFS, NoiseFloor, level_dbfs
from edge.turn.recent_audio import RecentAudio
from edge.turn.vad import CHUNK_SAMPLES, EnergyGate, SpeechDetector

SAMPLE_RATE_HZ = 16_000
HOP_SAMPLES = 128
_HOP_S = HOP_SAMPLES / SAMPLE_RATE_HZ
# In noise at 10 dB SNR Silero falls below 0.35 some 60 ms after the end of a word (median over 41 recordings).
_DETECTOR_HANGOVER_SAMPLES = 768
_HOPS_PER_CHUNK = CHUNK_SAMPLES // HOP_SAMPLES


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivitySettings:
    """When sound counts as speech."""

    start_probability: float = 0.5
    stop_probability: float = 0.35
    """Below `start_probability`, so that a soft syllable does not end the speech (hysteresis)."""
    start_s: float = 0.064
    """Speech this long starts an utterance; shorter blips are clicks. 0.032-0.5 s."""
    pause_s: float = 0.064
    """Silence this long is the first pause. 0.03-0.5 s; shorter costs recogniser time on stop consonants."""
    merge_window_s: float = 1.2
    """Speech this soon after the end of a released utterance continues it. 0-5 s."""
    look_back_s: float = 0.3
    """Audio kept before the detected start: a soft first consonant lies there. 0-1 s."""
    max_utterance_s: float = 30.0
    """Older audio of an utterance is dropped; Whisper hears 30 s at most."""
    above_floor_db: float = 6.0
    """How far above the noise floor a sound must be."""
    below_speaker_db: float = 32.0
    """Sounds this much below the speaker's own loudness are room and line, not words."""
    lowest_speech_dbfs: float = -60.0
    """Nothing below this is speech to us."""

    def __post_init__(self) -> None:
        if not 0 < self.stop_probability <= self.start_probability < 1:
            raise ValueError("need 0 < stop_probability <= start_probability < 1")
        for name, value, low, high in (
            ("start_s", self.start_s, 0.032, 0.5),
            ("pause_s", self.pause_s, 0.03, 0.5),
            ("merge_window_s", self.merge_window_s, 0.0, 5.0),
            ("look_back_s", self.look_back_s, 0.0, 1.0),
            ("max_utterance_s", self.max_utterance_s, 2.0, 60.0),
        ):
            if not low <= value <= high:
                raise ValueError(f"{name} must be {low}-{high} s, not {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechStarted:
    """Speech began at `onset`; known at `position`."""

    position: int
    onset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechPaused:
    """The caller fell silent at `speech_end` (best estimate); known at `position`."""

    position: int
    speech_end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechResumed:
    """The caller went on at `onset` after a pause that began at `pause_start`; same utterance."""

    position: int
    onset: int
    pause_start: int

    @property
    def pause_s(self) -> float:
        """How long the pause was."""
        return max(0, self.onset - self.pause_start) / SAMPLE_RATE_HZ


ActivityEvent = SpeechStarted | SpeechPaused | SpeechResumed


class ActivityState(StrEnum):
    QUIET = "quiet"
    SPEAKING = "speaking"
    PAUSED = "paused"


class SpeechActivity:
    """One call's caller audio, judged as it arrives."""

    def __init__(self, detector: SpeechDetector, settings: ActivitySettings | None = None) -> None:
        self._settings = settings or ActivitySettings()
        self._gate = EnergyGate(detector)
        self._floor = NoiseFloor()
        self._audio = RecentAudio(capacity_samples=_samples(self._settings.max_utterance_s))
        self._pause_samples = _samples(self._settings.pause_s)
        self._state = ActivityState.QUIET
        self._pending = b""
        self._chunk = np.zeros(CHUNK_SAMPLES, dtype=np.float32)
        self._chunk_hops = 0
        self._chunk_peak_dbfs = SILENCE_DBFS
        self._probability = 0.0
        self._speaker_dbfs = SILENCE_DBFS
        self._level_dbfs = SILENCE_DBFS
        self._position = 0
        self._missing = 0
        self._loud_since = 0  # start of the loud stretch that reaches up to now
        self._loud_end = 0
        self._voiced_since: int | None = None  # start of the chunks above start_probability up to now
        self._voiced_end = 0
        self._onset = 0  # of the running stretch
        self._utterance_onset = 0
        self._speech_end = 0
        self._spoken_samples = 0
        self._is_released = True

    @property
    def state(self) -> ActivityState:
        """Whether the caller is quiet, speaking, or pausing within an utterance."""
        return self._state

    @property
    def position(self) -> int:
        """Samples judged so far and those that are missing now: time goes on when frames stop."""
        return self._position + self._missing

    @property
    def level_dbfs(self) -> float:
        """Level of the loudest 8 ms in the last 32."""
        return self._level_dbfs

    @property
    def noise_floor_dbfs(self) -> float:
        """Level of the line's background."""
        return self._floor.dbfs

    @property
    def silence_s(self) -> float:
        """Seconds since the caller's last speech ended; 0 while they speak."""
        if self._state is ActivityState.SPEAKING:
            return 0.0
        return (self._position + self._missing - self._speech_end) / SAMPLE_RATE_HZ

    @property
    def speech_end(self) -> int:
        """Position where the caller's last speech ended."""
        return self._speech_end

    @property
    def spoken_s(self) -> float:
        """Seconds of speech in this utterance since the last `release`, pauses not counted."""
        running = max(0, self._active_end() - self._onset) if self._state is ActivityState.SPEAKING else 0
        return (self._spoken_samples + running) / SAMPLE_RATE_HZ

    def set_pause(self, pause_s: float) -> None:
        """Report pauses from now on after `pause_s`: later under load, so that fewer recognitions are thrown away."""
        self._pause_samples = _samples(min(0.5, max(0.03, pause_s)))

    def feed(self, pcm: bytes, *, minimum_dbfs: float = SILENCE_DBFS) -> list[ActivityEvent]:
        """Take audio of any length and return what happened in it, in order.

        `minimum_dbfs`: sounds below it are our own echo (`level.EchoEstimate`).
        """
        self._missing = 0
        self._pending += pcm
        whole = len(self._pending) // (2 * HOP_SAMPLES) * (2 * HOP_SAMPLES)
        ready, self._pending = self._pending[:whole], self._pending[whole:]
        samples = np.frombuffer(ready, dtype="<i2").astype(np.float32)
        events: list[ActivityEvent] = []
        for start in range(0, len(samples), HOP_SAMPLES):
            self._audio.append(ready[2 * start : 2 * (start + HOP_SAMPLES)])
            event = self._hear(samples[start : start + HOP_SAMPLES], minimum_dbfs)
            if event is not None:
                events.append(event)
        return events

    def starve(self, missing_samples: int) -> list[ActivityEvent]:
        """Say that no audio has come for `missing_samples` in all since the last `feed`: it counts as silence."""
        self._missing = max(self._missing, missing_samples)
        if (
            self._state is ActivityState.SPEAKING
            and self._position + self._missing - self._active_end() >= self._pause_samples
        ):
            return [self._pause()]
        self._expire()
        return []

    def utterance(self, *, since: int | None = None, tail_s: float = 0.1) -> bytes:
        """Audio of the open utterance (or from `since`) with its look-back, up to `tail_s` after its last word."""
        start = (self._utterance_onset if since is None else since) - _samples(self._settings.look_back_s)
        end = self._position
        if self._state is not ActivityState.SPEAKING:
            end = min(end, self._speech_end + _samples(tail_s))
        return self._audio.between(start, end)

    def release(self) -> None:
        """Say that the utterance was taken as a turn; speech within the merge window still resumes it."""
        self._is_released = True
        self._spoken_samples = 0

    def discard(self) -> None:
        """Forget the utterance (it was noise, or a turn long over): further speech starts a new one."""
        if self._state is ActivityState.SPEAKING:
            self._speech_end = self._active_end()
        self._state = ActivityState.QUIET
        self._is_released = True
        self._spoken_samples = 0
        self._voiced_since = None

    def _hear(self, hop: NDArray[np.float32], minimum_dbfs: float) -> ActivityEvent | None:
        level = level_dbfs(hop)
        self._floor.update(level)
        self._speaker_dbfs -= 6.0 * _HOP_S  # 6 dB a second: follows a caller who lowers the voice
        if level > self._loud_level(minimum_dbfs):
            if self._loud_end < self._position:
                self._loud_since = self._position
            self._loud_end = self._position + HOP_SAMPLES
        self._chunk[self._chunk_hops * HOP_SAMPLES : (self._chunk_hops + 1) * HOP_SAMPLES] = hop
        self._chunk_peak_dbfs = max(self._chunk_peak_dbfs, level)
        self._chunk_hops += 1
        self._position += HOP_SAMPLES
        if self._chunk_hops == _HOPS_PER_CHUNK:
            self._judge_chunk(minimum_dbfs)
        return self._advance()

    def _loud_level(self, minimum_dbfs: float) -> float:
        settings = self._settings
        lowest = max(settings.lowest_speech_dbfs, minimum_dbfs, self._floor.dbfs + settings.above_floor_db)
        return max(lowest, self._speaker_dbfs - settings.below_speaker_db)

    def _judge_chunk(self, minimum_dbfs: float) -> None:
        settings = self._settings
        lowest = max(settings.lowest_speech_dbfs, minimum_dbfs, self._floor.dbfs + 3.0)
        is_quiet = self._chunk_peak_dbfs < lowest
        start = self._position - CHUNK_SAMPLES
        self._probability = self._gate.probability(self._chunk.copy(), is_quiet=is_quiet)
        if self._probability >= settings.stop_probability:
            self._voiced_end = self._position
        if self._probability >= settings.start_probability and not is_quiet:
            self._speaker_dbfs = max(self._speaker_dbfs, self._chunk_peak_dbfs)
            if self._voiced_since is None:
                self._voiced_since = start
        else:
            self._voiced_since = None
        self._level_dbfs = self._chunk_peak_dbfs
        self._chunk_peak_dbfs, self._chunk_hops = SILENCE_DBFS, 0

    def _advance(self) -> ActivityEvent | None:
        match self._state:
            case ActivityState.QUIET:
                return self._start() if self._voiced_s() >= self._settings.start_s else None
            case ActivityState.SPEAKING:
                is_over = self._position - self._active_end() >= self._pause_samples
                return self._pause() if is_over else None
            case ActivityState.PAUSED:
                if self._is_resuming():
                    return self._resume()
                self._expire()
                return None

    def _voiced_s(self) -> float:
        if self._voiced_since is None or self._chunk_hops:
            return 0.0
        return (self._position - self._voiced_since) / SAMPLE_RATE_HZ

    def _active_end(self) -> int:
        """Where speech was last active: detector and level agree up to here."""
        # Until the running chunk is judged, it takes the verdict of the one before.
        voiced_end = self._voiced_end
        if self._voiced_end == self._position - self._chunk_hops * HOP_SAMPLES:
            voiced_end = self._position
        if self._loud_end <= voiced_end:
            return self._loud_end
        # Noise hides the end from the level; the detector itself lets go late.
        return max(self._onset, voiced_end - _DETECTOR_HANGOVER_SAMPLES)

    def _is_resuming(self) -> bool:
        """A gap of a stop consonant leaves the detector convinced; after a longer one it must hear speech anew."""
        is_loud = self._loud_end == self._position and self._position - self._loud_since >= 3 * HOP_SAMPLES
        return is_loud and self._voiced_since is not None and self._loud_end > self._speech_end

    def _start(self) -> SpeechStarted:
        voiced_since = self._voiced_since if self._voiced_since is not None else self._position
        # The detector needs some 30 ms of a word; the level shows where it rose, unless the line is noisy.
        onset = self._loud_since if voiced_since - self._loud_since < SAMPLE_RATE_HZ // 8 else voiced_since
        self._audio.forget_before(onset - _samples(self._settings.look_back_s))
        self._state = ActivityState.SPEAKING
        self._onset = self._utterance_onset = onset
        self._spoken_samples = 0
        self._is_released = False
        return SpeechStarted(position=self._position, onset=onset)

    def _pause(self) -> SpeechPaused:
        self._state = ActivityState.PAUSED
        self._speech_end = max(self._onset, self._active_end())
        self._spoken_samples += self._speech_end - self._onset
        return SpeechPaused(position=self._position, speech_end=self._speech_end)

    def _resume(self) -> SpeechResumed:
        self._state = ActivityState.SPEAKING
        self._onset = max(self._loud_since, self._speech_end)
        self._is_released = False
        return SpeechResumed(position=self._position, onset=self._onset, pause_start=self._speech_end)

    def _expire(self) -> None:
        if (
            self._state is ActivityState.PAUSED
            and self._is_released
            and self.silence_s >= self._settings.merge_window_s
        ):
            self._state = ActivityState.QUIET
            self._voiced_since = None


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE_HZ)
