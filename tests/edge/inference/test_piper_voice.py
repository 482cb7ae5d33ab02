"""Speech begins at once, ends soon, never clips, and is cut where a speaker breathes."""

from pathlib import Path
from threading import Event

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.model_manifest import ModelKind
from edge.inference.errors import NoAudioError
from edge.inference.model_store import open_model
from edge.inference.piper_voice import LEAD_S, TARGET_DBFS, Voice, active_rms, clauses_of, limit, trim
from edge.inference.recognition import samples_of

RATE_HZ = 16_000


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("Okay. It is on its way.", ["Okay. It is on its way."]),
        ("I will look that up. It is on its way to you.", ["I will look that up.", "It is on its way to you."]),
        ("Sure, I can certainly do that for you.", ["Sure, I can certainly do that for you."]),
        ("Yes.", ["Yes."]),
        ("", []),
        ("It is red, blue, and green.", ["It is red, blue, and green."]),
    ],
)
def test_clauses(text: str, clauses: list[str]) -> None:
    """Short clauses join their neighbours."""
    assert clauses_of(text) == clauses


@given(st.text(alphabet="ab .,!?:", max_size=80))
def test_clauses_lose_no_word(text: str) -> None:
    """Together they are the text."""
    assert " ".join(clauses_of(text)).split() == text.split()


@given(lead=st.integers(0, 8_000), tail=st.integers(0, 8_000), kept_s=st.sampled_from([0.05, 0.14, 0.26]))
def test_trim_leaves_what_was_asked(lead: int, tail: int, kept_s: float) -> None:
    """At most LEAD_S before the sound and exactly `tail_s` after it, cut or filled up."""
    samples = np.concatenate([np.zeros(lead), np.full(1_000, 0.5), np.zeros(tail)]).astype(np.float32)
    trimmed = trim(samples, RATE_HZ, tail_s=kept_s)
    start = int(np.flatnonzero(trimmed)[0])
    assert start == min(lead, int(LEAD_S * RATE_HZ))
    assert len(trimmed) == start + 1_000 + int(kept_s * RATE_HZ)


def test_trim_of_silence_is_nothing() -> None:
    """No sound, no samples."""
    assert len(trim(np.zeros(100, np.float32), RATE_HZ, tail_s=0.1)) == 0


def test_limit_keeps_quiet_sound_and_never_clips() -> None:
    """Below the knee nothing changes; above it stays under full scale and keeps its order."""
    quiet = np.linspace(-0.7, 0.7, 50, dtype=np.float32)
    assert np.array_equal(limit(quiet), quiet)
    loud = np.linspace(0.71, 5.0, 50, dtype=np.float32)
    assert limit(loud).max() <= 1.0
    assert (np.diff(limit(loud)) >= 0).all()


def test_clips_are_equally_loud(model_store: Path) -> None:
    """A word, a clause and a sentence are within 4 dB of the level that telephones expect."""
    voice = Voice(open_model(model_store, "en_US-joe-medium", ModelKind.TTS), threads=1)
    for text in ("Certainly.", "Your order is on its way.", "Thanks for waiting. The lamp costs $79.99 with delivery."):
        samples = samples_of(b"".join(voice.synthesize(text, Event())))
        level_dbfs = 20 * np.log10(active_rms(samples, RATE_HZ))
        assert level_dbfs == pytest.approx(TARGET_DBFS, abs=4.0)
    with pytest.raises(NoAudioError):
        list(voice.synthesize("?!", Event()))
    cancelled = Event()
    cancelled.set()
    assert list(voice.synthesize("Too late.", cancelled)) == []
