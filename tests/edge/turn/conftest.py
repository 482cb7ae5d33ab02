"""The voice detector, and recorded speech as a telephone line delivers it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from edge.turn.vad import SileroDetector, SileroModel

REPOSITORY = Path(__file__).parents[3]
MODEL = REPOSITORY / ".state/models/silero-vad/silero_vad_16k_op15.onnx"
SPEECH = REPOSITORY.parent / "shared/speech"
Pcm = NDArray[np.int16]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One file of the shared speech, through 8 kHz mu-law, at 16 kHz."""

    path: str
    pcm: Pcm
    transcript: str | None


@pytest.fixture(scope="session")
def silero() -> SileroModel:
    """The real model, shared by all tests."""
    if not MODEL.exists():
        pytest.skip(f"{MODEL} is missing: fetch it with `borough models fetch`")
    return SileroModel(MODEL)


@pytest.fixture
def detector(silero: SileroModel) -> SileroDetector:
    """A fresh call's detector."""
    return SileroDetector(silero)


@pytest.fixture(scope="session")
def recordings() -> Callable[[str], list[Recording]]:
    """Recordings of one set of the shared speech; skips where it is missing."""
    manifest = SPEECH / "manifest.json"
    if not manifest.exists():
        pytest.skip(f"{SPEECH} is missing: no recorded speech to test with")
    entries = cast("list[dict[str, str | None]]", json.loads(manifest.read_text()))

    def read(name: str) -> list[Recording]:
        return [
            Recording(path=str(e["path"]), pcm=_telephone(SPEECH / str(e["path"])), transcript=e["transcript"])
            for e in entries
            if e["set"] == name
        ]

    return read


def _telephone(path: Path) -> Pcm:
    samples, rate = soundfile.read(path, dtype="int16")
    mono = samples[:, 0] if samples.ndim > 1 else samples
    narrow = mono if rate == 8000 else soxr.resample(mono, rate, 8000)
    return cast("Pcm", soxr.resample(_through_mulaw(narrow), 8000, 16000))


def _through_mulaw(samples: Pcm) -> Pcm:
    """Quantise as ITU-T G.711 mu-law does."""
    magnitude = np.minimum(np.abs(samples.astype(np.int32)), 32635) + 132
    exponent = np.floor(np.log2(magnitude)).astype(np.int32) - 7
    mantissa = (magnitude >> (exponent + 3)) & 15
    decoded = (((mantissa << 3) + 132) << exponent) - 132
    return cast("Pcm", (np.sign(samples) * decoded).astype(np.int16))
