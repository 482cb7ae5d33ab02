"""The exit status of our services: whether trying again can help."""

from collections.abc import Iterable

from contract.errors import Blame, BoroughError

FAILED = 1
# sysexits.h EX_CONFIG: the units let such a service lie, for trying again would change nothing.
OPERATOR_NEEDED = 78


def exit_status(errors: Iterable[BaseException]) -> int:
    """OPERATOR_NEEDED where any of the errors, or of those grouped in them, is the operator's to mend, else FAILED."""
    for error in errors:
        if isinstance(error, BaseExceptionGroup):
            if exit_status(error.exceptions) == OPERATOR_NEEDED:
                return OPERATOR_NEEDED
        elif isinstance(error, BoroughError) and error.blame is Blame.OPERATOR:
            return OPERATOR_NEEDED
    return FAILED
