"""Applies, rolls back and deletes documents: all checks first, then everything in one transaction, or nothing.

The bundles of the regions that change are compiled and put into the outbox in that same transaction.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import apsw

from contract.documents_source import DocumentProblem
from controlplane.admin.callers import Caller
from controlplane.audit import append_entry
from controlplane.bundles.outbox import BundleVersion
from controlplane.bundles.regions import RegionBundles
from controlplane.database import HubDatabase
from controlplane.documents import store
from controlplane.documents.estate import Plan, estate_problems, make_plan, tenant_spec
from controlplane.documents.judgement import Judge
from controlplane.documents.model import REGION, TENANT, Change, ChangeKind, DocumentKey, Entry, Finding, Revision
from controlplane.documents.reading import SourceFile, read_files
from controlplane.errors import DocumentNotFoundError, DocumentsRefusedError
from controlplane.jurisdictions.errors import UnknownPackError

PROBLEMS_SHOWN = 25  # a gRPC status travels in a header of 8 kB


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an apply did, or would do."""

    changes: tuple[Change, ...]
    bundles: tuple[BundleVersion, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What is asked for: entries in, keys out."""

    entries: Mapping[DocumentKey, Entry]
    removed: Callable[[Iterable[DocumentKey]], list[DocumentKey]]
    action: str


class Documents:
    """The documents of the hub. `committed` is awaited after every change, before the answer: who asks next finds what
    was applied."""

    def __init__(
        self,
        database: HubDatabase,
        bundles: RegionBundles,
        judge: Judge,
        committed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._database = database
        self._bundles = bundles
        self._judge = judge
        self._committed = committed

    async def apply(
        self, files: Sequence[SourceFile], caller: Caller, *, dry_run: bool = False, prune: bool = False
    ) -> Outcome:
        """Store documents, or only say what would change. Raises DocumentsRefusedError and BundleTooLargeError."""
        entries, problems = await asyncio.to_thread(read_files, files)
        if problems:
            raise _refused(problems, [])
        tenants = {key.tenant for key in entries if key.kind != REGION} if prune else set()

        def removed(stored: Iterable[DocumentKey]) -> list[DocumentKey]:
            return sorted(key for key in stored if key.kind != REGION and key.tenant in tenants and key not in entries)

        return await self._carry_out(_Wish(entries=entries, removed=removed, action="apply"), caller, dry_run=dry_run)

    async def rollback(self, key: DocumentKey, revision: int, caller: Caller, *, dry_run: bool = False) -> Outcome:
        """Apply an earlier revision as a new one; 0 is the one before the newest. Raises also DocumentNotFoundError."""
        wanted = _earlier(await self.history(key), key, revision)
        entry = Entry(key=key, revision=0, yaml=wanted.yaml, file=f"stored:{key}@{wanted.revision}")
        wish = _Wish(entries={key: entry}, removed=lambda _: [], action="rollback")
        return await self._carry_out(wish, caller, dry_run=dry_run)

    async def delete(self, key: DocumentKey, caller: Caller) -> Outcome:
        """Take a document out; refused while another needs it. Raises also DocumentNotFoundError."""

        def removed(stored: Iterable[DocumentKey]) -> list[DocumentKey]:
            if key not in stored:
                raise DocumentNotFoundError(f"there is no {key}")
            return [key]

        return await self._carry_out(_Wish(entries={}, removed=removed, action="delete"), caller, dry_run=False)

    async def history(self, key: DocumentKey) -> list[Revision]:
        """All revisions, newest first. Raises DocumentNotFoundError."""
        revisions = await self._database.read(lambda connection: store.history(connection, key))
        if not revisions:
            raise DocumentNotFoundError(f"there is no {key}")
        return revisions

    async def revision(self, key: DocumentKey, revision: int) -> Revision:
        """One revision; 0 is what holds now. Raises DocumentNotFoundError."""
        revisions = await self.history(key)
        found = revisions[0] if revision == 0 else next((r for r in revisions if r.revision == revision), None)
        if found is None or found.is_deleted:
            raise DocumentNotFoundError(f"there is no {key}" + (f" with revision {revision}" if revision else ""))
        return found

    async def current(self, kind: str, tenant: str) -> list[Revision]:
        """What holds now, of a kind or all (""), of a tenant or all ("")."""
        return await self._database.read(lambda connection: store.current(connection, kind, tenant))

    async def lint(self, tenant: str, *, is_strictest: bool) -> list[Finding]:
        """Where a stored tenant is looser than its packs. Raises DocumentNotFoundError and UnknownPackError."""

        def judge(connection: apsw.Connection) -> list[Finding]:
            estate, _ = store.load_estate(connection)
            if tenant_spec(estate, tenant) is None:
                raise DocumentNotFoundError(f"there is no Tenant {tenant!r}")
            return self._judge(estate, tenant, is_strictest=is_strictest)

        return await self._database.read(judge)

    async def _carry_out(self, wish: _Wish, caller: Caller, *, dry_run: bool) -> Outcome:
        if dry_run:
            return await self._database.read(lambda connection: self._preview(connection, wish))
        outcome = await self._database.write(lambda connection: self._store(connection, wish, caller))
        if self._committed is not None:
            await self._committed()
        return outcome

    def _plan(self, connection: apsw.Connection, wish: _Wish) -> tuple[Plan, list[Finding]]:
        estate, revisions = store.load_estate(connection)
        plan = make_plan(estate, wish.entries, wish.removed(estate), revisions)
        problems = estate_problems(plan)
        findings: list[Finding] = []
        for tenant in sorted(plan.touched_tenants):
            try:
                findings += self._judge(plan.after, tenant)
            except UnknownPackError as error:
                problems.append(_of_tenant(plan, tenant, str(error)))
        findings += self._bundles.backing.findings(plan.after, plan.touched_regions)
        if problems or any(finding.is_error for finding in findings):
            raise _refused(problems, [finding for finding in findings if finding.is_error])
        return plan, findings

    def _preview(self, connection: apsw.Connection, wish: _Wish) -> Outcome:
        plan, findings = self._plan(connection, wish)
        bundles = [
            BundleVersion(region=region.region, version=version, created_at_ms=0, content_bytes=len(region.content))
            for region, version in self._bundles.changed(connection, plan.after)
        ]
        return Outcome(changes=plan.changes, bundles=tuple(bundles), findings=tuple(findings))

    def _store(self, connection: apsw.Connection, wish: _Wish, caller: Caller) -> Outcome:
        plan, findings = self._plan(connection, wish)
        at_ms = time.time_ns() // 1_000_000
        changed = [change for change in plan.changes if change.kind is not ChangeKind.UNCHANGED]
        for change in changed:
            store.store_change(connection, change, at_ms=at_ms, by=caller.name)
        bundles = self._bundles.store_changed(connection, plan.after)
        targets = [f"{change.key}@{change.revision} {change.kind}" for change in changed] or ["nothing changed"]
        for target in targets:
            append_entry(
                connection, actor=caller.name, role=caller.role, action=f"documents.{wish.action}", target=target
            )
        return Outcome(changes=plan.changes, bundles=tuple(bundles), findings=tuple(findings))


def _earlier(revisions: Sequence[Revision], key: DocumentKey, revision: int) -> Revision:
    candidates = [stored for stored in revisions if not stored.is_deleted]
    if revision == 0:
        found = next((stored for stored in candidates if stored.revision < revisions[0].revision), None)
    else:
        found = next((stored for stored in candidates if stored.revision == revision), None)
    if found is None:
        what = "no earlier revision" if revision == 0 else f"no revision {revision}"
        raise DocumentNotFoundError(f"{key} has {what}")
    return found


def _of_tenant(plan: Plan, tenant: str, message: str) -> DocumentProblem:
    entry = plan.after[DocumentKey(kind=TENANT, tenant=tenant, name=tenant)]
    checked = entry.checked()
    assert checked is not None, "a tenant that is judged was read"
    return checked.source.problem(("spec", "governance", "jurisdictions"), message, UnknownPackError.hint)


def _refused(problems: Sequence[DocumentProblem], findings: Sequence[Finding]) -> DocumentsRefusedError:
    lines = [*(str(problem) for problem in problems), *(str(finding) for finding in findings)]
    more = len(lines) - PROBLEMS_SHOWN
    shown = lines[:PROBLEMS_SHOWN] + ([f"... and {more} more"] if more > 0 else [])
    return DocumentsRefusedError("\n".join(shown))
