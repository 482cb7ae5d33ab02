"""Errors of the knowledge package.

KnowledgeError
└── KnowledgeInvalidError     a file of items is wrong
"""

from pathlib import Path


class KnowledgeError(Exception):
    """Base of this package's errors. `code` is stable, `hint` says what to do."""

    code = "knowledge"
    hint = ""


class KnowledgeInvalidError(KnowledgeError):
    """A file of knowledge items cannot be used."""

    code = "knowledge_invalid"
    hint = "run `borough agent validate DIR`"

    def __init__(self, path: Path, line: int, message: str) -> None:
        super().__init__(f"{path}:{line}: {message}")
        self.path = path
        self.line = line
        self.message = message
