"""Errors of the rollups.

RollupError
├── LedgerError         the ledger's file cannot be opened or written
└── LedgerOwnerError    the file belongs to another node
"""

from contract.errors import Blame, BoroughError


class RollupError(BoroughError):
    """Base of what can go wrong with rollups; calls go on, and are counted later."""

    code = "rollups.error"
    blame = Blame.OPERATOR


class LedgerError(RollupError):
    """The ledger's file cannot be opened or written."""

    code = "rollups.ledger"
    hint = "See that the sync folder is writable and has room (`df -h`); nothing is lost while the records are there."


class LedgerOwnerError(RollupError):
    """The file belongs to another node."""

    code = "rollups.ledger_owner"
    hint = "Give every node a sync folder of its own; a ledger is restored on the node that it belongs to only."
