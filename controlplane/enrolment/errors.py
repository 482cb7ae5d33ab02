"""Errors of enrolment. Each refusal of an attempt has a code of its own, which is what the audit log keeps.

ControlPlaneError
├── EnrolmentError
│   ├── TokenRefusedError         base of what is wrong with a token
│   │   ├── TokenUnknownError     no token, or not its secret
│   │   ├── TokenForeignError     of another hub, or for another region or node
│   │   ├── TokenExpiredError
│   │   ├── TokenRevokedError
│   │   ├── TokenUsedError        again, from where it was used
│   │   └── TokenStolenError      again, from elsewhere or for another node
│   ├── NodeNameTakenError        an enrolled node has the name
│   ├── NodeAddressError          no address that siblings could reach, or another node's
│   ├── CertificateRequestError   a request for a certificate is not what it should be
│   ├── NodeUnknownError          the client certificate is no agent's of a node that is enrolled here
│   ├── NotSwitchedError          confirmed with the old certificate
│   └── TooManyAttemptsError      the source failed too often
├── TokenNotFoundError            there is no such token
├── RegionUnknownError            there is no such region
├── NodeNotFoundError             there is no such node
├── NodeBusyError                 a node that takes calls cannot be removed
├── NodeStateError                no state that a node can have
├── AuthorityUnavailableError     the authority does not answer
├── AuthorityRefusedError         the authority refuses; `code` and hint are its own
├── EnrolmentServerError          the enrolment ports cannot be opened
└── EnrolmentOffError             the hub has no authority: it enrols nobody
"""

from contract.errors import Blame
from controlplane.errors import ControlPlaneError


class EnrolmentError(ControlPlaneError):
    """Base of why an attempt of a node was refused."""

    code = "enrolment.refused"
    blame = Blame.OPERATOR
    grpc_status = "PERMISSION_DENIED"


class TokenRefusedError(EnrolmentError):
    """Base of what is wrong with a token."""

    code = "enrolment.token"
    hint = "Ask an admin of the hub for a fresh token: `borough node token create REGION`."


class TokenUnknownError(TokenRefusedError):
    """There is no such token, or its secret is another."""

    code = "enrolment.token_unknown"


class TokenForeignError(TokenRefusedError):
    """The token is of another hub, or for another region or node."""

    code = "enrolment.token_foreign"


class TokenExpiredError(TokenRefusedError):
    """The token's time is over."""

    code = "enrolment.token_expired"


class TokenRevokedError(TokenRefusedError):
    """The token was revoked."""

    code = "enrolment.token_revoked"


class TokenUsedError(TokenRefusedError):
    """The token was used before, by the same machine."""

    code = "enrolment.token_used"


class TokenStolenError(TokenRefusedError):
    """The token was used before, from elsewhere or for another node: one of the two uses is not the operator's."""

    code = "enrolment.token_stolen"
    hint = "Find out who used it: `borough node token list --all`. If that node is not yours: `borough fleet remove`."


class NodeNameTakenError(EnrolmentError):
    """An enrolled node has the name."""

    code = "enrolment.name_taken"
    hint = "Choose another name; for a rebuilt node: `borough node token create REGION --node NODE --replace`."


class NodeAddressError(EnrolmentError):
    """The address is none that siblings could reach, or another node's."""

    code = "enrolment.address"
    hint = "Give the address of the node in its region's network, without a port."


class CertificateRequestError(EnrolmentError):
    """A request for a certificate is not what it should be."""

    code = "enrolment.request"
    grpc_status = "INVALID_ARGUMENT"
    hint = "`borough node enroll` makes the requests: use the release that the hub runs."


class NodeUnknownError(EnrolmentError):
    """The client certificate is no valid one of the agent of a node that is enrolled here."""

    code = "enrolment.node_unknown"
    grpc_status = "UNAUTHENTICATED"
    hint = "Enrol the node again with a fresh token: its certificates were revoked, replaced or are another hub's."


class NotSwitchedError(EnrolmentError):
    """Confirmed with the old certificate: the node does not run on the new ones yet."""

    code = "enrolment.not_switched"
    grpc_status = "FAILED_PRECONDITION"
    hint = "Confirm with the new agent certificate, once the node's services run on the new ones."


class TooManyAttemptsError(EnrolmentError):
    """The source failed too often."""

    code = "enrolment.too_many_attempts"
    grpc_status = "RESOURCE_EXHAUSTED"
    hint = "Wait ten minutes, then try again with a fresh token."


class TokenNotFoundError(ControlPlaneError):
    """There is no such token."""

    code = "hub.token_not_found"
    blame = Blame.OPERATOR
    grpc_status = "NOT_FOUND"
    hint = "`borough node token list --all` shows the tokens."


class RegionUnknownError(ControlPlaneError):
    """There is no such region."""

    code = "hub.region_unknown"
    blame = Blame.OPERATOR
    grpc_status = "NOT_FOUND"
    hint = "`borough get regions` lists them; apply the Region document first."


class NodeNotFoundError(ControlPlaneError):
    """There is no such node."""

    code = "hub.node_not_found"
    blame = Blame.OPERATOR
    grpc_status = "NOT_FOUND"
    hint = "`borough fleet status` lists the nodes; name the region where two have one of this name."


class NodeBusyError(ControlPlaneError):
    """A node that takes calls, or is not heard, cannot be removed."""

    code = "hub.node_busy"
    blame = Blame.OPERATOR
    grpc_status = "FAILED_PRECONDITION"
    hint = "`borough fleet drain NODE` first; `borough fleet remove NODE --force` for a node that is lost."


class NodeStateError(ControlPlaneError):
    """No state that a node can have."""

    code = "hub.node_state"
    blame = Blame.OPERATOR
    hint = "`borough fleet cordon`, `drain`, `uncordon` and `remove` name the states."


class AuthorityUnavailableError(ControlPlaneError):
    """The authority does not answer."""

    code = "hub.authority_unavailable"
    blame = Blame.REMOTE
    grpc_status = "UNAVAILABLE"
    hint = "Is borough-authority running, and is [enrolment] authority_socket its socket?"


class AuthorityRefusedError(ControlPlaneError):
    """The authority refuses; `code` and hint are its own."""

    code = "hub.authority_refused"
    blame = Blame.OPERATOR
    grpc_status = "FAILED_PRECONDITION"

    def __init__(self, code: str, message: str, hint: str) -> None:
        super().__init__(message, hint=hint)
        setattr(self, "code", code or type(self).code)  # noqa: B010 - a class variable everywhere else: here the authority's word


class EnrolmentServerError(ControlPlaneError):
    """The enrolment ports cannot be opened."""

    code = "hub.enrolment_server"
    blame = Blame.OPERATOR
    hint = "Look at the [enrolment] section of hub.toml."


class EnrolmentOffError(ControlPlaneError):
    """The hub has no authority: it enrols nobody and keeps no list of nodes."""

    code = "hub.enrolment_off"
    blame = Blame.OPERATOR
    grpc_status = "FAILED_PRECONDITION"
    hint = "Give hub.toml an [enrolment] section with the authority's socket."
