"""Errors of the knowledge package.

KnowledgeError
├── KnowledgeInvalidError     a file of items is wrong
├── KnowledgeRefusedError     a snapshot or delta was not applied; the last good one stays
├── KnowledgeDamagedError     the replica on disk cannot be used and was set aside
└── KnowledgeEmbeddingError   the replica's vectors are of another model than the node's
"""

from pathlib import Path

from contract.errors import Blame, BoroughError
from contract.uplink_pb2 import Refusal


class KnowledgeError(BoroughError):
    """Base of what can go wrong with knowledge."""

    code = "knowledge.error"


class KnowledgeInvalidError(KnowledgeError):
    """A file of knowledge items cannot be used."""

    code = "knowledge.invalid"
    blame = Blame.OPERATOR
    hint = "run `borough agent validate DIR`"

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")
        self.path = path
        self.line = line
        self.message = message


class KnowledgeRefusedError(KnowledgeError):
    """A snapshot or delta was not applied. What ran before still runs; `refusal` is what the hub is told."""

    code = "knowledge.refused"
    blame = Blame.REMOTE
    hint = "`borough fleet status` shows the refusal; `borough knowledge publish --snapshot` sends everything anew"

    def __init__(self, refusal: Refusal.ValueType, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.refusal = refusal


class KnowledgeDamagedError(KnowledgeError):
    """A tenant's replica on disk is damaged; it lies beside as `*.damaged` and has to be fetched again."""

    code = "knowledge.damaged"
    blame = Blame.LOCAL
    hint = "The node fetches it again by itself; look at the disk if this comes back."

    def __init__(self, tenant: str, message: str) -> None:
        super().__init__(f"{tenant}: {message}")
        self.tenant = tenant


class KnowledgeEmbeddingError(KnowledgeError):
    """The vectors of the replica are not of the model that this node runs."""

    code = "knowledge.embedding"
    blame = Blame.OPERATOR
    hint = "Hub and nodes must run the same embedding model; build and publish the knowledge again."
