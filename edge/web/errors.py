"""Errors of the page's interface, as its JSON shows them.

WebError
├── ForeignOriginError     the request is not from the page itself
├── UnknownAgentError      no such agent on this node
├── UnknownCallError       no such call, or not this caller's
└── MalformedRequestError  the body is not what the page sends
"""

from contract.errors import Blame, BoroughError


class WebError(BoroughError):
    """Base of what can be wrong with a request."""

    code = "web.error"
    blame = Blame.REMOTE


class ForeignOriginError(WebError):
    code = "web.foreign_origin"
    hint = "Open the page of the node itself; add its name to the node's allowed hosts."


class UnknownAgentError(WebError):
    code = "web.unknown_agent"
    hint = "Reload the page to see the agents of this node."


class UnknownCallError(WebError):
    code = "web.unknown_call"
    hint = "The call is over: start a new one."


class MalformedRequestError(WebError):
    code = "web.malformed_request"
    hint = "Reload the page; it may be older than the node."
