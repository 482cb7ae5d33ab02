"""Errors of inference.

InferenceError
├── InferenceUnavailableError   the service is down, refuses or failed: try a sibling or a prepared answer
├── InferenceLateError          the answer did not come while it was of use
├── SiblingAccessError          what siblings are asked or served with cannot be used: certificate, key, port
├── ModelLoadError              a model that is missing, damaged or of a kind no engine runs
├── QueueOverflowError          (service) the model's queue is full
├── WorkExpiredError            (service) the work had not begun by its deadline
├── InvalidWorkError            (service) a request that no model can serve
├── NotASiblingError            (service) somebody who is no call worker of this region's other nodes
└── NoAudioError                (service) a voice that said nothing

The service turns them into gRPC status codes in one place (`service.py`), the client back into the first two.
"""

from contract.errors import Blame, BoroughError


class InferenceError(BoroughError):
    """Base of what can go wrong with inference."""

    code = "inference.error"


class InferenceUnavailableError(InferenceError):
    code = "inference.unavailable"
    blame = Blame.REMOTE


class InferenceLateError(InferenceError):
    code = "inference.late"
    blame = Blame.REMOTE


class SiblingAccessError(InferenceError):
    code = "inference.sibling_access"
    blame = Blame.OPERATOR
    hint = "Look at the [siblings] section of inference.toml, or [inference.siblings] of calls.toml."


class NotASiblingError(InferenceError):
    code = "inference.not_a_sibling"
    blame = Blame.REMOTE


class ModelLoadError(InferenceError):
    code = "inference.model_load"
    blame = Blame.OPERATOR


class QueueOverflowError(InferenceError):
    code = "inference.queue_overflow"


class WorkExpiredError(InferenceError):
    code = "inference.work_expired"


class InvalidWorkError(InferenceError):
    code = "inference.work_invalid"
    blame = Blame.REMOTE


class NoAudioError(InferenceError):
    code = "inference.no_audio"
