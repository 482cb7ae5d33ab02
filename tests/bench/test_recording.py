"""The ear of the bench finds the borders of speech to 10 ms, on lines with noise, offset and mu-law."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import RecordingError
from bench.recording import Samples, Span, read_recording, read_wav, speech_spans, write_wav

RATE_HZ = 8000


def voice(length_s: float, level_dbfs: float, seed: int) -> Samples:
    """Harmonics of a pitch that wanders, with a syllable rhythm that never falls silent: speech with sharp ends."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(length_s * RATE_HZ)) / RATE_HZ
    pitch_hz = 110 + 60 * rng.random()
    wave = sum(np.sin(2 * np.pi * pitch_hz * k * t + rng.random() * 6) / k for k in range(1, 12))
    wave = wave * (0.75 + 0.25 * np.sin(2 * np.pi * 4 * t))
    wave = wave / np.sqrt(np.mean(wave**2))
    samples: Samples = np.clip(wave * 32768 * 10 ** (level_dbfs / 20), -32767, 32767).astype(np.int16)
    return samples


def line(length_s: float, spans: list[Span], *, voice_dbfs: float = -22, noise_dbfs: float | None = None) -> Samples:
    """A side of a call: the given speech on a line that is silent, or has noise."""
    rng = np.random.default_rng(1)
    samples = np.zeros(round(length_s * RATE_HZ))
    if noise_dbfs is not None:
        samples += rng.normal(0, 32768 * 10 ** (noise_dbfs / 20), len(samples))
    for index, span in enumerate(spans):
        start = round(span.start_s * RATE_HZ)
        speech = voice(span.length_s, voice_dbfs, index)
        samples[start : start + len(speech)] += speech
    return np.clip(samples, -32768, 32767).astype(np.int16)


def mu_law(samples: Samples) -> Samples:
    """There and back through G.711 mu-law (ITU-T G.711), idle as +-8 as some gateways send it."""
    x = np.clip(samples.astype(np.float64) / 32768, -1, 1)
    code = np.round(np.sign(x) * np.log1p(255 * np.abs(x)) / np.log(256) * 127) / 127
    back = np.sign(code) * (np.power(256, np.abs(code)) - 1) / 255 * 32768
    idle = np.where(np.arange(len(back)) % 2, 8, -8)
    heard: Samples = np.where(np.abs(back) < 8, idle, back).astype(np.int16)
    return heard


starts = st.floats(min_value=0.3, max_value=3.0)
lengths = st.floats(min_value=0.15, max_value=3.0)
pauses = st.floats(min_value=0.25, max_value=1.5)


@settings(max_examples=60, deadline=None)
@given(
    start=starts,
    first=lengths,
    pause=pauses,
    second=lengths,
    voice_dbfs=st.floats(min_value=-30, max_value=-10),
    noise_dbfs=st.one_of(st.none(), st.floats(min_value=-75, max_value=-58)),
    is_mu_law=st.booleans(),
)
def test_borders_are_found_to_ten_milliseconds(
    *,
    start: float,
    first: float,
    pause: float,
    second: float,
    voice_dbfs: float,
    noise_dbfs: float | None,
    is_mu_law: bool,
) -> None:
    """Known speech at any place, level and noise is found within 10 ms at both ends."""
    truth = [
        Span(start_s=start, end_s=start + first),
        Span(start_s=start + first + pause, end_s=start + first + pause + second),
    ]
    samples = line(12.0, truth, voice_dbfs=voice_dbfs, noise_dbfs=noise_dbfs)
    found = speech_spans(mu_law(samples) if is_mu_law else samples, RATE_HZ, merge_gap_s=0.2)
    assert len(found) == 2
    for seen, true in zip(found, truth, strict=True):
        assert seen.start_s == pytest.approx(true.start_s, abs=0.010)
        assert seen.end_s == pytest.approx(true.end_s, abs=0.010)


@pytest.mark.parametrize("noise_dbfs", [-70.0, -60.0, -50.0, -42.0])
def test_steady_noise_is_no_speech(noise_dbfs: float) -> None:
    """Comfort noise of any usual level holds no speech."""
    assert speech_spans(line(20.0, [], noise_dbfs=noise_dbfs), RATE_HZ, merge_gap_s=0.2) == ()


def test_silence_and_idle_codes_are_no_speech() -> None:
    """Zeros, mu-law idle and a constant offset hold no speech."""
    silence = np.zeros(RATE_HZ * 3, np.int16)
    assert speech_spans(silence, RATE_HZ, merge_gap_s=0.2) == ()
    assert speech_spans(mu_law(silence), RATE_HZ, merge_gap_s=0.2) == ()
    assert speech_spans(np.full(RATE_HZ * 3, 900, np.int16), RATE_HZ, merge_gap_s=0.2) == ()
    assert speech_spans(np.zeros(0, np.int16), RATE_HZ, merge_gap_s=0.2) == ()


def test_a_click_is_no_speech() -> None:
    """A loud click of 5 ms, as a lost packet makes, is not speech."""
    samples = line(3.0, [])
    samples[RATE_HZ : RATE_HZ + 40] = 12000
    assert speech_spans(samples, RATE_HZ, merge_gap_s=0.2) == ()


def test_pauses_shorter_than_the_gap_are_speech() -> None:
    """Pauses within a sentence do not end it."""
    samples = line(4.0, [Span(start_s=1.0, end_s=1.5), Span(start_s=1.65, end_s=2.2)])
    (span,) = speech_spans(samples, RATE_HZ, merge_gap_s=0.2)
    assert span.start_s == pytest.approx(1.0, abs=0.01)
    assert span.end_s == pytest.approx(2.2, abs=0.01)


def test_speech_that_fills_the_recording_is_found() -> None:
    """A side that talks without a pause does not become its own floor."""
    (span,) = speech_spans(line(15.0, [Span(start_s=0.5, end_s=14.5)]), RATE_HZ, merge_gap_s=0.2)
    assert span.length_s == pytest.approx(14.0, abs=0.02)


def test_wav_files_are_read_back(tmp_path: Path) -> None:
    """What is written is read."""
    samples = line(1.0, [Span(start_s=0.2, end_s=0.6)])
    write_wav(tmp_path / "tx.wav", samples, RATE_HZ)
    write_wav(tmp_path / "rx.wav", samples[: RATE_HZ // 2], RATE_HZ)
    recording = read_recording(tmp_path / "tx.wav", tmp_path / "rx.wav")
    assert np.array_equal(recording.caller, samples)
    assert recording.length_s == pytest.approx(1.0)


def test_unusable_files_are_named(tmp_path: Path) -> None:
    """A missing, empty or foreign file is an error with its name."""
    (tmp_path / "empty.wav").write_bytes(b"")
    for name in ("missing.wav", "empty.wav"):
        with pytest.raises(RecordingError, match=name):
            read_wav(tmp_path / name)
    write_wav(tmp_path / "8k.wav", line(0.1, []), 8000)
    write_wav(tmp_path / "16k.wav", line(0.1, []), 16000)
    with pytest.raises(RecordingError, match="8000"):
        read_recording(tmp_path / "8k.wav", tmp_path / "16k.wav")
