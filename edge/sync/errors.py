"""Errors of the node agent.

SyncError
├── RefusedError            what came from the hub is not believed or cannot be served; `refusal` tells the hub why
└── TrustedKeyError         a file of a trusted hub key is unusable
"""

from contract.errors import Blame, BoroughError
from contract.uplink_pb2 import Refusal


class SyncError(BoroughError):
    """Base of what can go wrong between node and hub."""

    code = "sync.error"


class RefusedError(SyncError):
    """What came from the hub is not believed or cannot be served; the node keeps its last good version."""

    code = "sync.refused"
    blame = Blame.REMOTE
    hint = "`borough fleet status` shows what was refused and why; the node runs its last good version."

    def __init__(
        self, refusal: Refusal.ValueType, message: str, *, document_kind: str = "", document_name: str = ""
    ) -> None:
        super().__init__(f"{Refusal.Name(refusal)}: {message}")
        self.refusal = refusal
        self.document_kind = document_kind
        self.document_name = document_name


class TrustedKeyError(SyncError):
    """A file of a trusted hub key is missing or holds no Ed25519 public key."""

    code = "sync.trusted_key"
    blame = Blame.OPERATOR
    hint = "Give the hub's Ed25519 public key in PEM under [hub] trusted_keys; keep the old one while keys rotate."
