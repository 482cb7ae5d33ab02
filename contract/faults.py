"""Who is to blame for an error; every error of ours carries one of these, a stable code and a hint."""

from enum import StrEnum


class Blame(StrEnum):
    """Where the repair has to happen."""

    LOCAL = "local"
    REMOTE = "remote"
    OPERATOR = "operator"
