"""Mu-law as ITU-T G.711 defines it, by table: what callers send and hear on the trunk."""

import numpy as np
from numpy.typing import NDArray

SILENCE = 0xFF
_BIAS = 0x84
_CLIP = 32635


def _decoded() -> NDArray[np.int16]:
    codes = ~np.arange(256, dtype=np.uint8)
    exponent = (codes >> 4) & 7
    magnitude = (((codes & 0x0F).astype(np.int32) << 3) + _BIAS << exponent) - _BIAS
    return np.where(codes & 0x80, -magnitude, magnitude).astype(np.int16)


def _encoded() -> NDArray[np.uint8]:
    samples = np.arange(-32768, 32768, dtype=np.int32)
    magnitude = np.minimum(np.abs(samples), _CLIP) + _BIAS
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 0x0F
    codes = ~(np.where(samples < 0, 0x80, 0) | (exponent << 4) | mantissa)
    table: NDArray[np.uint8] = (codes & 0xFF).astype(np.uint8)
    return table


_DECODE = _decoded()
_ENCODE = _encoded()


def encode(samples: NDArray[np.int16]) -> bytes:
    """One byte a sample."""
    return _ENCODE[samples.astype(np.int32) + 32768].tobytes()


def decode(codes: bytes) -> NDArray[np.int16]:
    """One sample a byte."""
    samples: NDArray[np.int16] = _DECODE[np.frombuffer(codes, np.uint8)]
    return samples
