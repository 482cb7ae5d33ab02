"""What can go wrong while a build store is made or read.

BuildError
├── BuildHostError      this machine cannot build: a program, root or room on its disk is missing
├── BuildDownloadError  a registry or mirror did not deliver
├── BuildMismatchError  something is not what was pinned
├── BuildCommandError   a program of the build failed
├── StoreDamagedError   a store whose files are not what its manifest says
├── StoreSignatureError a store that the key given did not sign
└── NodeImageError      the disk image cannot be made, or carries what it must not
"""

from contract.errors import Blame, BoroughError


class BuildError(BoroughError):
    """Base of this tree."""

    code = "build.error"


class BuildHostError(BuildError):
    """This machine cannot build: a program, root or room on its disk is missing."""

    code = "build.host"
    blame = Blame.OPERATOR


class BuildDownloadError(BuildError):
    """A registry or mirror did not deliver."""

    code = "build.download"
    blame = Blame.REMOTE


class BuildMismatchError(BuildError):
    """Something is not what was pinned."""

    code = "build.mismatch"
    blame = Blame.REMOTE


class BuildCommandError(BuildError):
    """A program of the build failed."""

    code = "build.command"


class StoreDamagedError(BuildError):
    """A store whose files are not what its manifest says."""

    code = "build.store_damaged"
    blame = Blame.OPERATOR


class StoreSignatureError(BuildError):
    """A store that the key given did not sign."""

    code = "build.store_signature"
    blame = Blame.OPERATOR


class NodeImageError(BuildError):
    """The disk image cannot be made, or carries what it must not."""

    code = "build.node_image"
