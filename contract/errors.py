"""The root of all our errors: a stable code, who is to blame, and what to do about it."""

from enum import StrEnum
from typing import ClassVar


class Blame(StrEnum):
    """Where the repair has to happen: in our code, at a peer, or by an operator of this system."""

    LOCAL = "local"
    REMOTE = "remote"
    OPERATOR = "operator"


class BoroughError(Exception):
    """Base of every error that a user may see. Subclasses set `code` and `blame`, and a `hint` that fits every case;
    where only the raiser knows what to do, it gives the hint."""

    code: ClassVar[str] = "borough.error"
    blame: ClassVar[Blame] = Blame.LOCAL
    hint: str = ""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint
