"""Errors of a machine that is a node or hub.

NodeError
├── NodeDescriptionError   node.toml is missing, or says what cannot be
├── RosterError            the roster is missing, unreadable, or another region's
├── RenderError            a file cannot be written, or a service does not take it
├── NodeIdentityError      the identity folder is not whole
├── EnrolmentError         the hub was not reached, or not believed
│   └── EnrolmentRefusedError   the hub refused; code and hint are its own
├── DrainError             calls still run at the deadline
└── SelfTestFailedError    a check of the self-test failed
"""

from contract.errors import Blame, BoroughError


class NodeError(BoroughError):
    """Base of this tree."""

    code = "node.error"
    blame = Blame.OPERATOR


class NodeDescriptionError(NodeError):
    """`node.toml` is missing, or says what cannot be."""

    code = "node.description"
    hint = "The node_common role writes this file: mend the variable in the region's inventory and run it again."


class RosterError(NodeError):
    """The roster is missing, unreadable, or another region's."""

    code = "node.roster"
    hint = "`borough node enroll` brings the first one; later ones come with the region's bundles."


class RenderError(NodeError):
    """A rendered file cannot be written, or a service does not take it."""

    code = "node.render"
    blame = Blame.LOCAL
    hint = "Run it as root; `systemctl status` of the service says more."


class NodeIdentityError(NodeError):
    """The identity folder of this machine is not whole."""

    code = "node.identity"
    hint = "Enrol anew with a token made by `borough node token create REGION --node NAME --replace`."


class EnrolmentError(NodeError):
    """The hub was not reached, or is not the one of the token; the message says which."""

    code = "node.enrolment"
    hint = "`borough node token create` on an admin's machine makes a new token."


class EnrolmentRefusedError(EnrolmentError):
    """The hub refused; `code` and `hint` are those of its reason."""

    code = "node.enrolment_refused"

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        setattr(self, "code", code)  # noqa: B010 - a class variable everywhere else: here it is the hub's word


class DrainError(NodeError):
    """Calls still run at the deadline; the node stays cordoned."""

    code = "node.drain"
    hint = "Wait longer (--deadline), or stop the workers: they end their calls with an announcement."


class SelfTestFailedError(NodeError):
    """A check of the self-test failed; what to do stands with each."""

    code = "node.self_test"
    hint = "Mend what failed, then `borough node self-test` again."
