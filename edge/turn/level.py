"""Loudness of a telephone line: levels in dBFS, the noise floor, and the echo of our own voice.

Knows arithmetic on levels only; what speech is, is decided in `vad` and `activity`.
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SILENCE_DBFS = -100.0
TYPICAL_PLAYOUT_DBFS = -20.0
"""Prepared and synthesised speech is about this loud."""

_FULL_SCALE_SQUARED = 32768.0 * 32768.0
# A line cannot be told from digital silence below this: mu-law's smallest step is about -72 dBFS.
_LOWEST_FLOOR_DBFS = -70.0
# A floor above this is not noise but somebody talking without a breath.
_HIGHEST_FLOOR_DBFS = -35.0
# Silence between our words says nothing about the echo.
_LOWEST_TEACHING_DBFS = -50.0
# Of a 20 ms frame. Up within 0.3 s, down within 2 s: the bar must lie above the loud syllables of an echo, whose gaps
# say nothing.
_RISING_RATE = 0.08
_FALLING_RATE = 0.012


def level_dbfs(samples: NDArray[np.float32]) -> float:
    """Mean power of samples in int16 scale, in dB relative to full scale."""
    if len(samples) == 0:
        return SILENCE_DBFS
    power = float(np.dot(samples, samples)) / (len(samples) * _FULL_SCALE_SQUARED)
    return 10.0 * math.log10(power) if power > 1e-10 else SILENCE_DBFS


class NoiseFloor:
    """Background level by minimum statistics (R. Martin, 2001): the lowest level of the last two seconds.

    Speech has gaps often enough that its minimum is the background, so no decision about speech is needed here.
    """

    _WINDOW_LEVELS = 64  # 0.5 s of 8 ms levels
    _WINDOWS = 4

    def __init__(self) -> None:
        self._minima: deque[float] = deque(maxlen=self._WINDOWS)
        self._window_minimum = 0.0
        self._seen = 0
        self._smoothed: float | None = None
        self.dbfs = _LOWEST_FLOOR_DBFS

    def update(self, level: float) -> None:
        """Take the level of the next 8 ms."""
        level = max(level, _LOWEST_FLOOR_DBFS)
        self._smoothed = level if self._smoothed is None else self._smoothed + 0.3 * (level - self._smoothed)
        self._window_minimum = min(self._window_minimum, self._smoothed)
        self._seen += 1
        if self._seen == self._WINDOW_LEVELS:
            self._minima.append(self._window_minimum)
            self._window_minimum, self._seen = 0.0, 0
            self.dbfs = min(_HIGHEST_FLOOR_DBFS, *self._minima)
        elif self._window_minimum < self.dbfs:
            self.dbfs = self._window_minimum


@dataclass(frozen=True, slots=True, kw_only=True)
class EchoSettings:
    """How loud our own voice may come back on a line."""

    initial_coupling_db: float = -24.0
    """Assumed until measured: a poor two-wire hybrid returns our voice at -20 to -30 dB."""
    lowest_coupling_db: float = -60.0
    highest_coupling_db: float = -15.0
    """Above this a quiet caller could not interrupt any more."""
    margin_db: float = 8.0
    """A caller must be this much above the expected echo."""
    tail_s: float = 0.3
    """How long after we sent a sound its echo may arrive."""

    def __post_init__(self) -> None:
        if not self.lowest_coupling_db <= self.initial_coupling_db <= self.highest_coupling_db <= 0:
            raise ValueError("echo coupling must rise from lowest over initial to highest and stay below 0 dB")


class EchoEstimate:
    """The level that an echo of our playout may have now, learnt from how much of it really comes back.

    Starts careful and learns within the second or two of the greeting that most lines have no echo worth the name.
    """

    def __init__(self, settings: EchoSettings | None = None) -> None:
        self._settings = settings or EchoSettings()
        self._coupling_db = self._settings.initial_coupling_db
        self._recent: deque[tuple[float, float]] = deque()
        self._recent_s = 0.0

    @property
    def coupling_db(self) -> float:
        """How much quieter than our playout its echo is."""
        return self._coupling_db

    def minimum_dbfs(self, playout_dbfs: float, *, duration_s: float = 0.02) -> float:
        """Level that speech must exceed in the next `duration_s`; `playout_dbfs` is played now (SILENCE_DBFS if none).

        TYPICAL_PLAYOUT_DBFS will do where the level of the clip is not known.
        """
        self._recent.append((playout_dbfs, duration_s))
        self._recent_s += duration_s
        while self._recent_s - self._recent[0][1] >= self._settings.tail_s:
            self._recent_s -= self._recent.popleft()[1]
        loudest = self._loudest()
        return loudest + self._coupling_db + self._settings.margin_db if loudest > SILENCE_DBFS else SILENCE_DBFS

    def learn(self, received_dbfs: float, *, is_caller_speaking: bool) -> None:
        """Take the level of what came back in one frame; what a caller says over us teaches nothing."""
        loudest = self._loudest()
        if loudest < _LOWEST_TEACHING_DBFS or is_caller_speaking:
            return
        change = received_dbfs - loudest - self._coupling_db
        moved = self._coupling_db + (_RISING_RATE if change > 0 else _FALLING_RATE) * change
        self._coupling_db = min(self._settings.highest_coupling_db, max(self._settings.lowest_coupling_db, moved))

    def confirmed(self, received_dbfs: float) -> None:
        """Take the level of a sound that proved to be our echo (`barge_in.Finding.ECHO`): it must not stop us again."""
        loudest = self._loudest()
        if loudest > SILENCE_DBFS:
            observed = min(self._settings.highest_coupling_db, received_dbfs - loudest)
            self._coupling_db = max(self._coupling_db, observed)

    def _loudest(self) -> float:
        return max((level for level, _ in self._recent), default=SILENCE_DBFS)
