"""What can go wrong with an Asterisk: its image, its settings, its process.

AsteriskError
├── AsteriskImageError     the root image cannot be built or is not usable
├── AsteriskSettingsError  the settings contradict themselves
└── AsteriskStartError     the process did not become ready, or ended
"""

from contract.errors import Blame, BoroughError


class AsteriskError(BoroughError):
    """Base of this tree; the hint depends on the case and is part of the message."""

    code = "asterisk.error"

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(f"{message}\nhint: {hint}")
        self.advice = hint


class AsteriskImageError(AsteriskError):
    """The root image cannot be built or is not usable."""

    code = "asterisk.image"
    blame = Blame.OPERATOR


class AsteriskSettingsError(AsteriskError):
    """The settings contradict themselves."""

    code = "asterisk.settings"
    blame = Blame.OPERATOR


class AsteriskStartError(AsteriskError):
    """The process did not become ready in time, or ended by itself."""

    code = "asterisk.start"
