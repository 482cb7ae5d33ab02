"""Whisper's log-mel spectrogram in numpy, and the shortest window of it that a recogniser may be given.

Source: openai/whisper `whisper/audio.py` (`log_mel_spectrogram`): n_fft 400, hop 160, Slaney filters, log10 clamped to
8 below the loudest bin.
"""

from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SAMPLE_RATE_HZ = 16_000
N_FFT = 400
HOP_SAMPLES = 160
# 30 s: what Whisper was trained on.
MAX_FRAMES = 3_000
# Shorter windows make Whisper mishear and repeat itself: spoken digits through mu-law have 41 % errors with 640
# frames, 27 % with 768 and an onset, 30 % in faster-whisper with 3000.
MIN_FRAMES = 768
STEP_FRAMES = 128
# Silence after the audio, so that the decoder sees the end of the last word.
MARGIN_FRAMES = 64
# Silence before it: Whisper loses a consonant that the clip begins with.
ONSET_SAMPLES = 1_600

Samples = NDArray[np.float32]
Mel = NDArray[np.float32]


@cache
def mel_filters(mels: int) -> Mel:
    """Slaney-normalised mel filter bank, shape (201, mels), as `librosa.filters.mel` gives it, transposed."""
    top_mel = 15.0 + np.log(8.0) / (np.log(6.4) / 27.0)
    mel = np.linspace(0.0, top_mel, mels + 2)
    edges = np.where(mel >= 15.0, 1000.0 * np.exp(np.log(6.4) / 27.0 * (mel - 15.0)), mel * 200.0 / 3)
    bins = np.linspace(0, SAMPLE_RATE_HZ / 2, N_FFT // 2 + 1)
    widths = np.diff(edges)
    ramps = edges[:, None] - bins[None, :]
    bank = np.maximum(0, np.minimum(-ramps[:-2] / widths[:-1, None], ramps[2:] / widths[1:, None]))
    bank *= (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return np.ascontiguousarray(bank.T, dtype=np.float32)


@cache
def _window() -> Samples:
    return np.hanning(N_FFT + 1)[:-1].astype(np.float32)


def window_frames(audio_frames: int, *, min_frames: int = MIN_FRAMES) -> int:
    """Return how many frames the encoder gets for audio of this length."""
    needed = audio_frames + MARGIN_FRAMES
    steps = -(-needed // STEP_FRAMES)
    return min(max(min_frames, steps * STEP_FRAMES), MAX_FRAMES)


def log_mel(samples: Samples, *, mels: int = 80, min_frames: int = MIN_FRAMES) -> Mel:
    """Return the spectrogram, shape (1, mels, window_frames), of float samples in [-1, 1] at 16 kHz, at most 30 s.

    The rest of the window is the floor that silence would have.
    """
    padded = np.pad(samples, (ONSET_SAMPLES + N_FFT // 2, N_FFT // 2))
    audible = min((ONSET_SAMPLES + len(samples)) // HOP_SAMPLES, MAX_FRAMES)
    frames = sliding_window_view(padded, N_FFT)[::HOP_SAMPLES][:audible]
    spectrum = np.fft.rfft(frames * _window(), axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    logarithm = np.log10(np.maximum(power @ mel_filters(mels), 1e-10))
    floor = logarithm.max(initial=-10.0) - 8.0
    logarithm = (np.maximum(logarithm, floor) + 4.0) / 4.0
    window = np.full((1, mels, window_frames(len(logarithm), min_frames=min_frames)), (floor + 4.0) / 4.0, np.float32)
    window[0, :, : len(logarithm)] = logarithm.T
    return window
