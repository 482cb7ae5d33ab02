"""Errors of the conversation package.

ConversationError
├── DocumentsInvalidError     the operator's documents are wrong; carries every problem found
└── ToolFailedError           a tool gave no usable answer; `reason` says why
"""

from collections.abc import Sequence

from contract.documents_source import DocumentProblem
from contract.errors import Blame, BoroughError


class ConversationError(BoroughError):
    """Base of what can go wrong with conversations."""

    code = "conversation.error"


class DocumentsInvalidError(ConversationError):
    """The documents of a tenant cannot be used."""

    code = "conversation.documents_invalid"
    blame = Blame.OPERATOR
    hint = "run `borough agent validate DIR`"

    def __init__(self, problems: Sequence[DocumentProblem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class ToolFailedError(ConversationError):
    """A tool gave no usable answer. `reason` is one of tool_not_configured, tool_arguments, tool_late,
    tool_unreachable, tool_refused, tool_answer."""

    code = "conversation.tool_failed"
    blame = Blame.REMOTE
    hint = "look at the tool's service; the caller was offered a human"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
