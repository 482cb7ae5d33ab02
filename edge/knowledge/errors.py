"""Errors of the knowledge package.

KnowledgeError
└── KnowledgeInvalidError     a file of items is wrong
"""

from pathlib import Path

from contract.errors import Blame, BoroughError


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
