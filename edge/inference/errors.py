"""Errors of inference.

InferenceError
├── InferenceUnavailableError   the service is down, refuses or failed: try a sibling or a prepared answer
├── InferenceLateError          the answer did not come while it was of use
├── ModelLoadError              a model that is missing, damaged or of a kind no engine runs
├── InferenceSettingsError      the settings file is wrong
├── QueueOverflowError          (service) the model's queue is full
├── WorkExpiredError            (service) the work had not begun by its deadline
├── InvalidWorkError            (service) a request that no model can serve
└── NoAudioError                (service) a voice that said nothing

The service turns them into gRPC status codes in one place (`service.py`), the client back into the first two.
"""

from typing import ClassVar

from contract.faults import Blame


class InferenceError(Exception):
    """Carries a stable `code`, who has to act (`blame`) and a `hint` with the command that mends it."""

    code: ClassVar[str] = "inference"
    blame: ClassVar[Blame] = Blame.LOCAL
    hint: str

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InferenceUnavailableError(InferenceError):
    code = "inference_unavailable"
    blame = Blame.REMOTE


class InferenceLateError(InferenceError):
    code = "inference_late"
    blame = Blame.REMOTE


class ModelLoadError(InferenceError):
    code = "model_load"
    blame = Blame.OPERATOR


class InferenceSettingsError(InferenceError):
    code = "inference_settings"
    blame = Blame.OPERATOR


class QueueOverflowError(InferenceError):
    code = "queue_overflow"


class WorkExpiredError(InferenceError):
    code = "work_expired"


class InvalidWorkError(InferenceError):
    code = "work_invalid"
    blame = Blame.REMOTE


class NoAudioError(InferenceError):
    code = "no_audio"
