"""Only words that were heard enter the history."""

from hypothesis import given
from hypothesis import strategies as st

from edge.turn.heard import Clip, heard_text

CLIPS = [
    Clip(text="We open at nine.", samples=16_000),
    Clip(text="On Sunday we are closed.", samples=24_000),
]
TEXTS = st.text(alphabet="abc .,", max_size=40).map(lambda text: " ".join(text.split()))


def test_a_clip_in_full_and_whole_words_of_the_next() -> None:
    """Not quite half of the second clip gives the words that end before that."""
    assert heard_text(CLIPS, 16_000 + 11_000) == "We open at nine. On Sunday"


def test_nothing_played_is_nothing_heard() -> None:
    """A reply flushed at once leaves no words."""
    assert heard_text(CLIPS, 0) == ""
    assert heard_text(CLIPS, 900) == ""


@given(st.lists(st.tuples(TEXTS, st.integers(1, 50_000)), max_size=5), st.integers(0, 200_000), st.integers(0, 50_000))
def test_heard_text_is_a_prefix_of_whole_words_that_only_grows(
    spoken: list[tuple[str, int]], heard: int, more: int
) -> None:
    """Never a word that was not said, never a part of one, never less after hearing more."""
    clips = [Clip(text=text, samples=samples) for text, samples in spoken]
    everything = " ".join(clip.text for clip in clips).split()
    words = heard_text(clips, heard).split()
    assert words == everything[: len(words)]
    later = heard_text(clips, heard + more).split()
    assert words == later[: len(words)]
    assert heard_text(clips, sum(clip.samples for clip in clips)).split() == everything
