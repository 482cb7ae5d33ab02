"""The spectrogram is Whisper's own, and its window always holds the audio."""

import numpy as np
from faster_whisper.feature_extractor import FeatureExtractor
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.log_mel import (
    HOP_SAMPLES,
    MARGIN_FRAMES,
    MAX_FRAMES,
    MIN_FRAMES,
    ONSET_SAMPLES,
    log_mel,
    window_frames,
)
from provisioning.models.whisper_ggml import mel_filters


def test_it_is_the_spectrogram_of_faster_whisper() -> None:
    """Equal to the independent implementation, away from the edges that they pad differently."""
    samples = np.random.default_rng(1).normal(0, 0.1, 32_000).astype(np.float32)
    ours = log_mel(samples)[0]
    theirs = FeatureExtractor()(np.pad(samples, (ONSET_SAMPLES, 0)), padding=0)
    frames = theirs.shape[1] - 2
    assert np.abs(ours[:, :frames] - theirs[:, :frames]).max() < 1e-3


def test_filters_are_those_written_into_ggml_files() -> None:
    """Both packages compute the same bank, though neither may import the other."""
    from edge.inference import log_mel as module  # noqa: PLC0415 - the function has the module's name

    assert np.array_equal(module.mel_filters(80).T, mel_filters(80))


def test_the_rest_of_the_window_is_silence() -> None:
    """After the audio comes the floor that digital silence would have."""
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32)
    mel = log_mel(tone)[0]
    assert mel.shape == (80, MIN_FRAMES)
    assert np.ptp(mel[:, 200:]) == 0.0
    assert mel[:, 200].max() == mel.min()


@given(st.integers(0, 4_000))
def test_the_window_is_never_shorter_than_the_audio(frames: int) -> None:
    """Audio and margin fit, up to the 30 s of the model."""
    window = window_frames(frames)
    assert MIN_FRAMES <= window <= MAX_FRAMES
    assert window >= min(frames + MARGIN_FRAMES, MAX_FRAMES)


@given(st.integers(0, 2_000))
def test_any_length_of_audio_works(count: int) -> None:
    """Even no sample at all; never a value that is not a number."""
    assert np.isfinite(log_mel(np.zeros(count, np.float32))).all()


def test_more_than_thirty_seconds_is_cut() -> None:
    """The window is full and no larger."""
    assert log_mel(np.zeros(HOP_SAMPLES * 3_500, np.float32)).shape == (1, 80, MAX_FRAMES)
