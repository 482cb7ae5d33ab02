"""How an error of ours is told over gRPC: a status, a message that fits, code and hint in the trailing metadata."""

from dataclasses import dataclass

import grpc

from contract.errors import Blame, BoroughError
from controlplane.errors import ControlPlaneError

BY_BLAME = {Blame.OPERATOR: "INVALID_ARGUMENT", Blame.REMOTE: "UNAVAILABLE", Blame.LOCAL: "INTERNAL"}
# All metadata of an answer must fit into 8 kB.
MESSAGE_CHARACTERS = 5_000
INTERNAL_CODE = "hub.internal"
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a context is aborted with."""

    status: grpc.StatusCode
    message: str
    metadata: Metadata


# Our bug: the client learns no more than that; the log has the traceback.
INTERNAL = Refusal(
    status=grpc.StatusCode.INTERNAL,
    message="the hub failed; its log says why",
    metadata=(("borough-code", INTERNAL_CODE),),
)


def refusal_of(error: BoroughError) -> Refusal:
    """What the client gets of an error."""
    own = error.grpc_status if isinstance(error, ControlPlaneError) else ""
    message, hint = str(error), error.hint.encode("ascii", "replace").decode()
    if len(message) > MESSAGE_CHARACTERS:
        message = message[:MESSAGE_CHARACTERS] + " ..."
    return Refusal(
        status=grpc.StatusCode[own or BY_BLAME[error.blame]],
        message=message,
        metadata=(("borough-code", error.code), ("borough-hint", hint)),
    )
