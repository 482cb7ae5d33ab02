"""Is this chunk of audio speech? The Silero model behind an energy gate.

One model is shared by all calls of a worker; each call has its own `SileroDetector`, which carries the recurrent
state. Knows nothing about turns: `activity` makes sense of the probabilities.
"""

from pathlib import Path
from typing import Protocol, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

CHUNK_SAMPLES = 512
"""32 ms at 16 kHz: what the model was trained on (Silero VAD v5 model card)."""

_CONTEXT_SAMPLES = 64
_STATE_SHAPE = (2, 1, 128)
_SAMPLE_RATE = np.array(16_000, dtype=np.int64)
_INT16_SCALE = np.float32(1 / 32768)


class SpeechDetector(Protocol):
    """Tells speech from everything else, chunk by chunk."""

    def probability(self, chunk: NDArray[np.float32]) -> float:
        """Probability of speech in the next 512 samples (int16 scale)."""

    def reset(self) -> None:
        """Forget what was heard."""


class SileroModel:
    """Silero's 16 kHz ONNX model with one thread and no spinning; 0.11 ms for a chunk."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A spinning thread of one worker would take the core of another's recogniser.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(
        self, samples: NDArray[np.float32], state: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Probabilities and next state for `samples` of shape (calls, 576), scaled to 1, and state (2, calls, 128)."""
        probability, following = self._session.run(None, {"input": samples, "state": state, "sr": _SAMPLE_RATE})
        return cast("NDArray[np.float32]", probability), cast("NDArray[np.float32]", following)


class SileroDetector:
    """One call's view of a shared `SileroModel`."""

    def __init__(self, model: SileroModel) -> None:
        self._model = model
        self._input = np.zeros((1, _CONTEXT_SAMPLES + CHUNK_SAMPLES), dtype=np.float32)
        self._state = np.zeros(_STATE_SHAPE, dtype=np.float32)

    def probability(self, chunk: NDArray[np.float32]) -> float:
        """Probability of speech in the next 512 samples (int16 scale)."""
        self._input[0, :_CONTEXT_SAMPLES] = self._input[0, -_CONTEXT_SAMPLES:]
        np.multiply(chunk, _INT16_SCALE, out=self._input[0, _CONTEXT_SAMPLES:])
        probability, self._state = self._model.run(self._input, self._state)
        return float(probability[0, 0])

    def reset(self) -> None:
        """Forget what was heard."""
        self._input[:] = 0
        self._state = np.zeros(_STATE_SHAPE, dtype=np.float32)


class EnergyGate:
    """Spares the model the chunks that are too quiet for speech.

    The gate closes after `hold_chunks` quiet chunks: pauses inside speech still reach the model, and its state
    settles on silence. (From a fresh state it misses one isolated digit in thirty.) On opening, the last skipped chunk
    is replayed, so that the model hears how the word began.
    """

    def __init__(self, detector: SpeechDetector, *, hold_chunks: int = 12) -> None:
        self._detector = detector
        self._hold_chunks = hold_chunks
        self._quiet_chunks = 0
        self._skipped: NDArray[np.float32] | None = None

    def probability(self, chunk: NDArray[np.float32], *, is_quiet: bool) -> float:
        """Probability of speech in the next 512 samples (int16 scale); 0 without asking while the line is quiet."""
        self._quiet_chunks = self._quiet_chunks + 1 if is_quiet else 0
        if self._quiet_chunks > self._hold_chunks:
            self._skipped = chunk
            return 0.0
        if self._skipped is not None:
            self._detector.probability(self._skipped)
            self._skipped = None
        return self._detector.probability(chunk)
