"""The exit status says whether starting again can help."""

from contract.settings import SettingsError
from edge.exit_status import FAILED, OPERATOR_NEEDED, exit_status
from edge.inference.errors import InferenceUnavailableError


def test_only_what_an_operator_must_mend_keeps_a_service_down() -> None:
    """A service that is away is waited for by starting again; wrong settings are not, however deep they are grouped."""
    away, wrong = InferenceUnavailableError("away"), SettingsError("calls.toml: wrong")
    assert exit_status([away]) == FAILED
    assert exit_status([away, wrong]) == OPERATOR_NEEDED
    assert exit_status([ExceptionGroup("worker", [ExceptionGroup("tasks", [wrong])])]) == OPERATOR_NEEDED
    assert exit_status([ExceptionGroup("worker", [away])]) == FAILED
