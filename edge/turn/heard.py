"""What the caller really heard of what we said: the only text that may enter the history.

A clip counts whole once its mark was reached; the clip that was playing when we stopped counts in proportion to the
samples played, rounded down to whole words: claiming too little makes us repeat ourselves, claiming too much makes us
believe the caller knows something.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A piece of our speech sent to the caller: its mark, its words, and its length in samples."""

    mark: str
    text: str
    samples: int


def heard_text(clips: Iterable[Clip], heard_samples: int) -> str:
    """Words of `clips`, played one after the other, that lie whole within the first `heard_samples`."""
    parts: list[str] = []
    left = heard_samples
    for clip in clips:
        if left <= 0:
            break
        parts.append(clip.text if left >= clip.samples else _first_words(clip, left))
        left -= clip.samples
    return " ".join(part for part in parts if part)


def _first_words(clip: Clip, heard_samples: int) -> str:
    heard_characters = len(clip.text) * heard_samples // clip.samples
    if heard_characters >= len(clip.text):
        return clip.text
    head = clip.text[: heard_characters + 1]
    # Cut at the last word border: a word half heard was not heard.
    return head.rpartition(" ")[0].rstrip() if " " in head else ""


class HeardSpeech:
    """The ledger of one reply: clips sent, marks reached, and what was heard when it ended or was cut off."""

    def __init__(self) -> None:
        self._waiting: deque[Clip] = deque()
        self._heard: list[Clip] = []
        self._cut = ""

    @property
    def is_finished(self) -> bool:
        """Whether everything sent was heard."""
        return not self._waiting

    @property
    def current(self) -> Clip | None:
        """The clip that is being played."""
        return self._waiting[0] if self._waiting else None

    @property
    def text(self) -> str:
        """The words heard so far; the clip being played counts only after `stopped`."""
        return " ".join(part for part in [*(clip.text for clip in self._heard), self._cut] if part)

    def sent(self, clip: Clip) -> None:
        """Record a clip queued for playout with its mark behind it."""
        self._waiting.append(clip)

    def reached(self, mark: str) -> None:
        """Record a mark: its clip and all before it were heard. Marks of flushed clips are ignored."""
        if all(clip.mark != mark for clip in self._waiting):
            return
        while True:
            clip = self._waiting.popleft()
            self._heard.append(clip)
            if clip.mark == mark:
                return

    def stopped(self, played_samples: int) -> str:
        """Record that playout was flushed `played_samples` after the last mark reached; return all that was heard."""
        self._cut = heard_text(self._waiting, played_samples)
        self._waiting.clear()
        return self.text

    def was_heard(self, mark: str) -> bool:
        """Whether the clip of this mark was heard whole (a consent prompt half heard is no consent)."""
        return any(clip.mark == mark for clip in self._heard)
