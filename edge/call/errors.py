"""Errors of the call.

CallError
├── CallStateInvalidError    the saved state of a call cannot be read
├── IllegalTransitionError   our bug: an event in a state that has no place for it
├── NoCapacityError          the node has no free slot
│   └── NodeCordonedError    the node takes no new calls
└── UnknownNumberError       no tenant answers this number
"""

from contract.errors import Blame, BoroughError


class CallError(BoroughError):
    """Base of what can go wrong in a call."""


class CallStateInvalidError(CallError):
    code = "call.state_invalid"
    blame = Blame.LOCAL
    hint = "The call began anew. During an upgrade nothing to do; else report it with the log lines of this call_id."


class IllegalTransitionError(CallError):
    code = "call.illegal_transition"
    blame = Blame.LOCAL
    hint = "This is a bug: report it with the log lines of this call_id."


class NoCapacityError(CallError):
    code = "call.no_capacity"
    blame = Blame.OPERATOR
    hint = "All slots are taken: raise [slots] capacity after `borough bench capacity`, or add a node."


class NodeCordonedError(NoCapacityError):
    code = "call.node_cordoned"
    hint = "The node was taken out of rotation: `borough node undrain` there, or `borough fleet uncordon NODE`."


class UnknownNumberError(CallError):
    code = "call.unknown_number"
    blame = Blame.OPERATOR
    hint = "Give the number to a tenant under `numbers:` in its Agent document."
