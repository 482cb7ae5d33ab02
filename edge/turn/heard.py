"""What the caller really heard of what we said: the only text that may enter the history.

A clip counts in proportion to the samples played, rounded down to whole words: claiming too little makes us repeat
ourselves, claiming too much makes us believe the caller knows something.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A piece of our speech sent to the caller: its words, and its length in samples."""

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
