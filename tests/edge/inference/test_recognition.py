"""What Whisper invents does not reach a conversation; what was said does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.recognition import (
    Recognition,
    cut_loops,
    drop_invented,
    has_speech_energy,
    samples_of,
    words_of,
)


def _found(text: str, *, silence: float = 0.02, sure: float = -0.2) -> Recognition:
    return Recognition(text=text, no_speech_probability=silence, average_log_probability=sure)


@pytest.mark.parametrize(
    ("found", "hints", "text"),
    [
        (_found("Thank you."), (), "Thank you."),
        (_found("Thank you.", silence=0.7), (), ""),
        (_found("Thanks for watching!", sure=-1.0), (), ""),
        (_found("Where is my order?", silence=0.7), (), "Where is my order?"),
        (_found("Where is my order?", silence=0.7, sure=-1.2), (), ""),
        (_found("Blah blah", sure=-2.0), (), ""),
        (_found("[BLANK_AUDIO]"), (), ""),
        (_found("(coughs) Yes."), (), "Yes."),
        (_found("♪"), (), ""),
        (_found("Borough, Acme."), ("Borough", "Acme"), ""),
        (_found("Acme."), ("Borough", "Acme"), "Acme."),
        (_found("Acme.", silence=0.5), ("Borough", "Acme"), ""),
        (_found("Yes."), (), "Yes."),
    ],
)
def test_invented_text_is_dropped(found: Recognition, hints: tuple[str, ...], text: str) -> None:
    """Silence words, hopeless text, annotations and echoed hints vanish; sure words stay."""
    assert drop_invented(found, hints).text == text


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("no no no", "no no no"),
        ("no no no no no no", "no"),
        ("I want to go I want to go I want to go I want to go I want to go", "I want to go"),
        ("5 5 5 5 5 5 5", "5 5 5 5 5 5 5"),
        ("Please enter a new extension. Please enter a new extension.", "Please enter a new extension."),
        ("", ""),
    ],
)
def test_loops_are_cut(text: str, cut: str) -> None:
    """A phrase on repeat is said once; short repetitions and digits stay."""
    assert cut_loops(text) == cut


@given(st.lists(st.sampled_from(["a", "b", "7", "c."]), max_size=40))
def test_cutting_loops_only_removes_words_and_settles(words: list[str]) -> None:
    """The result is a fixed point and no longer than the text."""
    once = cut_loops(" ".join(words))
    assert cut_loops(once) == once
    assert len(once.split()) <= len(words)
    assert set(words_of(once)) == set(words_of(" ".join(words)))


def test_energy_gate_knows_silence_from_speech() -> None:
    """Digital silence, line noise, an offset and a click too short to be a word have no speech in them."""
    noise = np.random.default_rng(seed=1)
    assert not has_speech_energy(np.zeros(16_000, np.float32))
    assert not has_speech_energy(np.full(16_000, 0.2, np.float32))
    assert not has_speech_energy(noise.normal(0, 0.0005, 16_000).astype(np.float32))
    assert not has_speech_energy(noise.normal(0, 0.3, 800).astype(np.float32))
    assert has_speech_energy(noise.normal(0, 0.05, 16_000).astype(np.float32))


def test_samples_are_scaled_to_one() -> None:
    """int16 little-endian becomes float in [-1, 1]."""
    assert samples_of(b"\x00\x80\xff\x7f\x00\x00").tolist() == pytest.approx([-1.0, 32767 / 32768, 0.0])
