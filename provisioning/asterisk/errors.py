"""What can go wrong with an Asterisk: its image, its settings, its process.

AsteriskError
├── AsteriskImageError     the root image cannot be built or is not usable
├── AsteriskSettingsError  the settings contradict themselves
└── AsteriskStartError     the process did not become ready, or ended
"""

from contract.errors import Blame, BoroughError


class AsteriskError(BoroughError):
    """Base of this tree; whoever raises it knows the hint."""

    code = "asterisk.error"


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
