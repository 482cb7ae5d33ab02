"""What can go wrong with an Asterisk: its image, its settings, its process.

AsteriskError
├── AsteriskImageError     the root image cannot be built or is not usable
├── AsteriskSettingsError  the settings contradict themselves
└── AsteriskStartError     the process did not become ready, or ended
"""

from enum import StrEnum


class Blame(StrEnum):
    """Who can put it right."""

    LOCAL = "local"
    REMOTE = "remote"
    OPERATOR = "operator"


class AsteriskError(Exception):
    """Base of this tree; `hint` says what to do about it."""

    code = "asterisk"
    blame = Blame.LOCAL

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(f"{message}\nhint: {hint}")
        self.message = message
        self.hint = hint


class AsteriskImageError(AsteriskError):
    """The root image cannot be built or is not usable."""

    code = "asterisk_image"
    blame = Blame.OPERATOR


class AsteriskSettingsError(AsteriskError):
    """The settings contradict themselves."""

    code = "asterisk_settings"
    blame = Blame.OPERATOR


class AsteriskStartError(AsteriskError):
    """The process did not become ready in time, or ended by itself."""

    code = "asterisk_start"
