"""Mu-law is what ITU-T G.711 says."""

import numpy as np

from bench import g711


def test_known_codes() -> None:
    """Silence, both zeros and both ends of the scale (G.711 tables 2a and 2b, scaled to 16 bits)."""
    assert g711.decode(bytes([0xFF, 0x7F, 0x80, 0x00])).tolist() == [0, 0, 32124, -32124]
    assert g711.encode(np.array([0, 32767, -32768], np.int16)) == bytes([0xFF, 0x80, 0x00])


def test_every_code_survives_the_way_through_samples() -> None:
    """Decoding and encoding again gives the same code (0x7F, the second zero, becomes the first)."""
    codes = bytes(code for code in range(256) if code != 0x7F)
    assert g711.encode(g711.decode(codes)) == codes


def test_the_error_is_that_of_the_law() -> None:
    """No sample is off by more than half of its segment's step: 1 in 32 and the bias."""
    samples = np.arange(-32635, 32636, 7).astype(np.int16)
    error = np.abs(g711.decode(g711.encode(samples)).astype(int) - samples)
    assert np.all(error <= np.abs(samples.astype(int)) / 32 + 8)
