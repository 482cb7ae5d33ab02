"""The Audit service of the admin API."""

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import AuditServicer
from controlplane.admin.callers import CallContext, Role, require
from controlplane.audit import AuditEntry, AuditLog

ENTRIES = 50
MOST_ENTRIES = 10_000


class AuditService(AuditServicer):
    """Who did what is for compliance and admins."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    async def List(self, request: pb.AuditRequest, context: CallContext) -> pb.AuditReply:  # noqa: N802
        require(context, Role.COMPLIANCE)
        entries = await self._audit.newest(min(request.limit or ENTRIES, MOST_ENTRIES))
        return pb.AuditReply(entries=[_entry(entry) for entry in entries])

    async def Verify(self, request: pb.AuditVerifyRequest, context: CallContext) -> pb.AuditVerifyReply:  # noqa: N802
        del request
        require(context, Role.COMPLIANCE)
        verdict = await self._audit.verify()
        return pb.AuditVerifyReply(entries=verdict.entries, first_broken_seq=verdict.first_broken_seq)


def _entry(entry: AuditEntry) -> pb.AuditEntry:
    return pb.AuditEntry(
        seq=entry.seq,
        at_ms=entry.at_ms,
        actor=entry.actor,
        role=entry.role,
        action=entry.action,
        object=entry.target,
        outcome=entry.outcome,
    )
