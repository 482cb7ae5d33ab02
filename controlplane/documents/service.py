"""The Documents service of the admin API: messages in, calls of `Documents`, messages out."""

from pathlib import PurePath

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import DocumentsServicer
from controlplane.admin.callers import CallContext, Role, require
from controlplane.bundles.outbox import BundleVersion
from controlplane.documents.application import Documents, Outcome
from controlplane.documents.model import REGION, TENANT, Change, ChangeKind, DocumentKey, Finding, Revision
from controlplane.documents.reading import SourceFile

CHANGES = {
    ChangeKind.UNCHANGED: pb.CHANGE_UNCHANGED,
    ChangeKind.CREATED: pb.CHANGE_CREATED,
    ChangeKind.UPDATED: pb.CHANGE_UPDATED,
    ChangeKind.DELETED: pb.CHANGE_DELETED,
}


class DocumentsService(DocumentsServicer):
    """Viewers read, operators change."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    async def Apply(self, request: pb.ApplyRequest, context: CallContext) -> pb.ApplyReply:  # noqa: N802
        caller = require(context, Role.OPERATOR)
        files = [SourceFile(path=PurePath(part.file), content=part.yaml) for part in request.documents]
        outcome = await self._documents.apply(files, caller, dry_run=request.dry_run, prune=request.prune)
        return _reply(outcome)

    async def List(self, request: pb.ListRequest, context: CallContext) -> pb.ListReply:  # noqa: N802
        require(context, Role.VIEWER)
        stored = await self._documents.current(request.kind, request.tenant)
        return pb.ListReply(documents=[_stored(revision) for revision in stored])

    async def Get(self, request: pb.DocumentRef, context: CallContext) -> pb.StoredDocument:  # noqa: N802
        require(context, Role.VIEWER)
        return _stored(await self._documents.revision(_key(request), request.revision))

    async def History(self, request: pb.DocumentRef, context: CallContext) -> pb.HistoryReply:  # noqa: N802
        require(context, Role.VIEWER)
        revisions = await self._documents.history(_key(request))
        return pb.HistoryReply(revisions=[_stored(revision) for revision in revisions])

    async def Rollback(self, request: pb.RollbackRequest, context: CallContext) -> pb.ApplyReply:  # noqa: N802
        caller = require(context, Role.OPERATOR)
        outcome = await self._documents.rollback(
            _key(request.document), request.document.revision, caller, dry_run=request.dry_run
        )
        return _reply(outcome)

    async def Delete(self, request: pb.DeleteRequest, context: CallContext) -> pb.ApplyReply:  # noqa: N802
        caller = require(context, Role.OPERATOR)
        return _reply(await self._documents.delete(_key(request.document), caller))

    async def Lint(self, request: pb.LintRequest, context: CallContext) -> pb.LintReply:  # noqa: N802
        require(context, Role.VIEWER)
        findings = await self._documents.lint(request.tenant, is_strictest=request.strictest)
        return pb.LintReply(findings=[_finding(finding) for finding in findings])


def _key(ref: pb.DocumentRef) -> DocumentKey:
    tenant = {REGION: "", TENANT: ref.name}.get(ref.kind, ref.tenant)
    return DocumentKey(kind=ref.kind, tenant=tenant, name=ref.name)


def _ref(key: DocumentKey, revision: int = 0) -> pb.DocumentRef:
    return pb.DocumentRef(kind=key.kind, tenant=key.tenant, name=key.name, revision=revision)


def _reply(outcome: Outcome) -> pb.ApplyReply:
    return pb.ApplyReply(
        changes=[_change(change) for change in outcome.changes],
        bundles=[_bundle(bundle) for bundle in outcome.bundles],
        findings=[_finding(finding) for finding in outcome.findings],
    )


def _change(change: Change) -> pb.DocumentChange:
    return pb.DocumentChange(document=_ref(change.key, change.revision), change=CHANGES[change.kind], diff=change.diff)


def _bundle(bundle: BundleVersion) -> pb.CompiledBundle:
    return pb.CompiledBundle(region=bundle.region, version=bundle.version, content_bytes=bundle.content_bytes)


def _finding(finding: Finding) -> pb.Finding:
    return pb.Finding(
        severity="error" if finding.is_error else "warning",
        document=_ref(finding.key),
        key=finding.field,
        rule=finding.rule,
        source=finding.source,
        message=finding.message,
        suggestion=finding.suggestion,
    )


def _stored(revision: Revision) -> pb.StoredDocument:
    return pb.StoredDocument(
        document=_ref(revision.key, revision.revision),
        yaml=revision.yaml.encode(),
        applied_at_ms=revision.applied_at_ms,
        applied_by=revision.applied_by,
    )
