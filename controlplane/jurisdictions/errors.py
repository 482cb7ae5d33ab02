"""Errors of the jurisdiction packs.

JurisdictionError
├── PackInvalidError   a pack's file is wrong: names file and key
└── UnknownPackError   a document names a pack that does not exist
"""

from typing import ClassVar

from contract.errors import Blame
from controlplane.errors import ControlPlaneError


class JurisdictionError(ControlPlaneError):
    """Base of what can go wrong with jurisdiction packs."""

    code = "jurisdiction.error"


class PackInvalidError(JurisdictionError):
    """A pack's file is wrong: names file and key."""

    code = "jurisdiction.pack_invalid"
    blame = Blame.OPERATOR
    hint = "Mend the named key; controlplane/jurisdictions/README.md describes the rules."


class UnknownPackError(JurisdictionError):
    """A name that no pack has."""

    code = "jurisdiction.unknown_pack"
    blame = Blame.OPERATOR
    hint = "`borough policy packs` lists the packs."
    grpc_status: ClassVar[str] = "NOT_FOUND"
