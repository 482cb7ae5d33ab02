"""Errors of the hub.

ControlPlaneError
├── HubDatabaseError        the hub's database cannot be opened or written
│   └── HubSchemaTooNewError
├── SigningKeyError         the signing key is missing or no Ed25519 key
└── CallerError             who asks is not known or may not
    ├── UnknownCallerError  no client certificate, or one without a role
    ├── RevokedCallerError  the certificate was revoked
    └── NotAllowedError     the role does not allow it
"""

from contract.errors import Blame, BoroughError


class ControlPlaneError(BoroughError):
    """Base of what can go wrong at the hub."""

    code = "hub.error"


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


class UnknownCallerError(CallerError):
    """The client certificate is missing or names no person or role."""

    code = "hub.unknown_caller"
    hint = "Use an admin certificate: CN names the person, OU the role (viewer, operator, compliance, admin)."


class RevokedCallerError(CallerError):
    """The client certificate was revoked."""

    code = "hub.revoked"
    hint = "Ask for a new admin certificate."


class NotAllowedError(CallerError):
    """The caller's role does not allow the request."""

    code = "hub.not_allowed"
    hint = "Ask somebody whose certificate has the role that the message names."
