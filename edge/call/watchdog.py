"""Deadlines of a call, as pure rules over the monotonic clock: silent caller, stuck turn, dead air, no audio at all."""

from dataclasses import dataclass
from enum import StrEnum, auto


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchdogSettings:
    """All in seconds."""

    no_input_s: float = 8.0
    """The caller is asked again after this much silence, and again after as much; then we say goodbye. 3-60."""
    no_input_limit: int = 3
    filler_s: float = 1.2
    """A reply that is not there by then is bridged by "one moment, please". 0.5-5."""
    stuck_turn_s: float = 10.0
    """A reply that is not there by then will not come: apologise and hand over. 3-30."""
    dead_audio_s: float = 5.0
    """Frames come every 20 ms while a leg lives, silence included; none for so long means that it is dead. 1-30."""
    longest_call_s: float = 3600.0


class Alarm(StrEnum):
    CALLER_SILENT = auto()
    FILLER_DUE = auto()
    TURN_STUCK = auto()
    AUDIO_DEAD = auto()
    CALL_TOO_LONG = auto()


@dataclass(slots=True)
class Watchdog:
    """Told what happens, asked what is overdue. All times are on one monotonic clock, in seconds."""

    settings: WatchdogSettings
    started: float
    last_frame: float = 0.0
    _quiet_since: float | None = None
    _thinking_since: float | None = None
    _had_filler: bool = False

    def __post_init__(self) -> None:
        self.last_frame = self.started

    def quiet(self, now: float) -> None:
        """It is the caller's turn and nobody speaks."""
        self._quiet_since = now
        self._thinking_since = None

    def busy(self) -> None:
        """Somebody speaks."""
        self._quiet_since = None
        self._thinking_since = None

    def thinking(self, now: float) -> None:
        """The caller waits for our reply."""
        if self._thinking_since is None:
            self._thinking_since = now
            self._had_filler = False
        self._quiet_since = None

    def due(self, now: float) -> Alarm | None:
        """The most severe alarm that is due; each is reported once, dead audio and length until the call ends."""
        if now - self.last_frame > self.settings.dead_audio_s:
            return Alarm.AUDIO_DEAD
        if now - self.started > self.settings.longest_call_s:
            return Alarm.CALL_TOO_LONG
        if self._thinking_since is not None:
            return self._thinking_alarm(now - self._thinking_since)
        if self._quiet_since is not None and now - self._quiet_since > self.settings.no_input_s:
            self._quiet_since = None
            return Alarm.CALLER_SILENT
        return None

    def _thinking_alarm(self, waited_s: float) -> Alarm | None:
        if waited_s > self.settings.stuck_turn_s:
            self._thinking_since = None
            return Alarm.TURN_STUCK
        if waited_s > self.settings.filler_s and not self._had_filler:
            self._had_filler = True
            return Alarm.FILLER_DUE
        return None
