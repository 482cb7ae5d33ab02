"""Errors of identities.

IdentityError
├── IdentityNameError      a name that no certificate can be issued to
├── IdentityMissingError   no such authority, certificate or key
├── IdentityExistsError    an authority is there already
├── IdentityRevokedError   an identity that was revoked would be issued anew
├── IdentityRequestError   what was sent to be signed is not what may be signed
├── IdentityStagedError    a renewed certificate waits to be put in use already
└── IdentityDamagedError   a file of the store is not what it should be
"""

from contract.errors import Blame, BoroughError


class IdentityError(BoroughError):
    """Base of this tree."""

    code = "identity.error"
    blame = Blame.OPERATOR


class IdentityNameError(IdentityError):
    """A name that no certificate can be issued to."""

    code = "identity.name"
    hint = "Sites and nodes are 2 to 32 lower-case letters, digits and hyphens, beginning with a letter."


class IdentityMissingError(IdentityError):
    """No such authority, certificate or key in the store."""

    code = "identity.missing"
    hint = "`borough identity init` makes the authority, `borough identity issue` a certificate."


class IdentityExistsError(IdentityError):
    """An authority is there already; a second one would cut off every node."""

    code = "identity.exists"
    hint = "Use the authority that is there, or name another folder with --store."


class IdentityRevokedError(IdentityError):
    """An identity that was revoked would be issued anew by provisioning."""

    code = "identity.revoked"
    hint = "Take it out of the topology, or trust it again: `borough identity issue NAME --role ROLE`."


class IdentityRequestError(IdentityError):
    """What was sent to be signed is not what may be signed: no request, another kind of key, a key that was certified
    before, a role twice, addresses of a role that only connects."""

    code = "identity.request"
    blame = Blame.REMOTE
    hint = "Make a new ECDSA P-256 key for each certificate: `borough node enroll` and `renew` do."


class IdentityStagedError(IdentityError):
    """A renewed certificate waits to be put in use already; a third valid one is not made."""

    code = "identity.staged"
    hint = "Put it in use, or withdraw it: `borough node renew` on the node, `borough identity rotate NAME --switch`."


class IdentityDamagedError(IdentityError):
    """A file of the store is not what it should be."""

    code = "identity.damaged"
    hint = "Restore the identity folder from its backup."
