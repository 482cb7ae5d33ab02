"""Errors of the records.

RecordsError
├── StoreFullError          no space for another row
├── StoreReadOnlyError      the file or its directory cannot be written
├── StoreLockedError        another process held the database longer than the busy timeout
├── StoreOverloadedError    the write did not finish before its deadline
├── StoreDamagedError       SQLite finds the file damaged, or it is no database
├── StoreClosedError        our bug: a write after the store was closed
├── RowRejectedError        our bug: a row that breaks a constraint
├── CallTakenOverError      the call belongs to another worker now
├── SchemaTooNewError       the file was written by a newer release
├── InvalidTenantError      a tenant name that cannot name a file
├── SubjectKeyError         the HMAC key for caller ids is unusable
├── MasterKeyError          the file of master keys is missing, open to others, or holds no key
└── AuditMissingError       there are no records whose audit chain could be verified
"""

import apsw

from contract.errors import Blame, BoroughError


class RecordsError(BoroughError):
    """Base of what can go wrong with the records; a call goes on without them."""

    code = "records.error"
    blame = Blame.OPERATOR


class StoreFullError(RecordsError):
    code = "records.full"
    hint = "Free space on the records volume (`df -h`), then calls are recorded again without a restart."


class StoreReadOnlyError(RecordsError):
    code = "records.read_only"
    hint = "Make the records directory writable for the service's user, or see `dmesg` for a failed disk."


class StoreLockedError(RecordsError):
    code = "records.locked"
    hint = "Another program holds the database open for writing: find it with `fuser` and stop it."


class StoreOverloadedError(RecordsError):
    code = "records.overloaded"
    hint = "The disk is too slow for the calls on this node: see `iostat -x`, or move the records."


class StoreDamagedError(RecordsError):
    code = "records.damaged"
    hint = "Stop the node, set the file aside and restore it from its replica."


class StoreClosedError(RecordsError):
    code = "records.closed"
    blame = Blame.LOCAL
    hint = "This is a bug: report it with the log lines of this call_id."


class RowRejectedError(RecordsError):
    code = "records.row_rejected"
    blame = Blame.LOCAL
    hint = "This is a bug: report it with the log lines of this call_id."


class CallTakenOverError(RecordsError):
    code = "records.call_taken_over"
    blame = Blame.LOCAL
    hint = "Nothing to do: this worker was taken for dead, and a sibling goes on with the call and its record."


class SchemaTooNewError(RecordsError):
    code = "records.schema_too_new"
    hint = "The database was written by a newer release: install that release again."


class InvalidTenantError(RecordsError):
    code = "records.invalid_tenant"
    hint = "Tenant names are 1 to 63 lower-case letters, digits and hyphens, starting with a letter or digit."


class SubjectKeyError(RecordsError):
    code = "records.subject_key"
    hint = "Give at least 32 random bytes: `head -c 32 /dev/urandom > FILE`."


class MasterKeyError(RecordsError):
    code = "records.master_key"
    hint = "Give a file of mode 0600 with 64 hexadecimal digits: `(umask 077; openssl rand -hex 32 > FILE)`."


class AuditMissingError(RecordsError):
    code = "records.audit_missing"
    hint = "Name the folder of the tenants' databases with --records."


def from_sqlite(error: apsw.Error, path: object) -> RecordsError:
    """Our error for one of SQLite's; raise it `from` the original."""
    message = f"{path}: {error}"
    match error:
        case apsw.FullError():
            return StoreFullError(message)
        case apsw.ReadOnlyError() | apsw.CantOpenError() | apsw.PermissionsError() | apsw.AuthError() | apsw.IOError():
            return StoreReadOnlyError(message)
        case apsw.BusyError() | apsw.LockedError():
            return StoreLockedError(message)
        case apsw.CorruptError() | apsw.NotADBError():
            return StoreDamagedError(message)
        case apsw.ConstraintError() | apsw.MismatchError():
            return RowRejectedError(message)
        case _:
            return RecordsError(message)
