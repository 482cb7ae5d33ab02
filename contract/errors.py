"""The root of all our errors: a stable code, who is to blame, and what to do about it."""

from enum import StrEnum
from typing import ClassVar


class Blame(StrEnum):
    """LOCAL: a bug of ours. REMOTE: a peer misbehaved. OPERATOR: something to set right on this system."""

    LOCAL = "local"
    REMOTE = "remote"
    OPERATOR = "operator"


class BoroughError(Exception):
    """Base of every error that a user may see; subclasses set the three attributes."""

    code: ClassVar[str] = "borough.error"
    blame: ClassVar[Blame] = Blame.LOCAL
    hint: ClassVar[str] = ""

    def explain(self) -> str:
        """One line for a terminal: what happened and what to do."""
        return f"{self} [{self.code}] {self.hint}".rstrip()
