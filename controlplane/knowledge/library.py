"""The knowledge of all tenants at the hub: build a draft, see what it would change, publish it, go back.

A version goes to each region as a delta to the version before, or as a snapshot: the first, when asked for, when more
than a fifth of the items changed, when the model changed, or when a region missed a version. Version, history and
messages are stored in one transaction, so that a crash before sending loses nothing.

What the hub sends by itself, because NATS or the database lost something, is what was published last: a draft goes out
only when somebody publishes it.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import apsw
import structlog
from nats.errors import Error as NatsError

from contract.downlink_pb2 import KnowledgeItem
from contract.knowledge_items import Item
from contract.streams import (
    KNOWLEDGE_BYTES_A_TENANT,
    KNOWLEDGE_MESSAGES_A_TENANT,
    MAX_PAYLOAD_BYTES,
    MIB,
    SNAPSHOT_BYTES_A_TENANT,
)
from controlplane.admin.callers import Caller, Role
from controlplane.audit import append_entry
from controlplane.cancelling import raise_if_cancelled
from controlplane.database import HubDatabase
from controlplane.errors import ControlPlaneError, LeaseLostError
from controlplane.knowledge import store
from controlplane.knowledge.content import (
    SnapshotFile,
    body_of,
    pack_delta,
    snapshot_path,
    write_snapshot,
)
from controlplane.knowledge.draft_vectors import DraftVectors
from controlplane.knowledge.embedding import Embedder
from controlplane.knowledge.errors import (
    KnowledgeItemsError,
    KnowledgeNotFoundError,
    KnowledgeNotSentError,
    KnowledgeNowhereError,
)
from controlplane.knowledge.publishing import KnowledgePublisher
from controlplane.knowledge.sealing import Seal
from controlplane.knowledge.store import Counts, ItemChange, KnowledgeVersion, OutgoingMessage, Sent
from controlplane.signing import Signer

log = structlog.get_logger(__name__)

SNAPSHOT_SHARE = 0.2
# A stream keeps so many messages of a tenant: a node that starts from nothing must find a snapshot among them.
MOST_DELTAS = KNOWLEDGE_MESSAGES_A_TENANT // 2
# Manifest, signature and the envelope take less than the rest.
LARGEST_DELTA_BYTES = MAX_PAYLOAD_BYTES - 64 * 1024
SHOWN_CHANGES = 50
RETRY_AFTER_S = 1.0
LOOK_AGAIN_S = 10.0
_HUB = Caller(name="hub", role=Role.ADMIN, serial=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Items for one source of the draft; a patch leaves those that it does not name."""

    source: str
    items: tuple[Item, ...]
    removals: tuple[str, ...] = ()
    is_patch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What publishing would change; `examples` are at most SHOWN_CHANGES."""

    added: int
    changed: int
    removed: int
    items: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What was sent; `regions` is empty when there was nothing to send."""

    version: int
    is_snapshot: bool
    content_bytes: int
    regions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantStatus:
    """A tenant's knowledge; `version` None before the first."""

    tenant: str
    version: KnowledgeVersion | None
    counts: Counts
    has_draft: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What a version is made from: the draft, or again what was published last."""

    tenant: str
    changes: list[ItemChange]
    items: int
    newest: KnowledgeVersion | None
    model: str
    versions: Mapping[str, Sent]
    is_published: bool = False

    @property
    def running(self) -> int:
        """The newest version; 0 before the first."""
        return self.newest.version if self.newest is not None else 0


class KnowledgeLibrary:
    """One operation a tenant at a time; others wait."""

    def __init__(
        self,
        database: HubDatabase,
        signer: Signer,
        embedder: Embedder,
        publisher: KnowledgePublisher,
        regions_of: Callable[[str], Sequence[str]],
    ) -> None:
        self._database = database
        self._seal = Seal(signer)
        self._embedder = embedder
        self._vectors = DraftVectors(database, embedder)
        self._publisher = publisher
        self._regions_of = regions_of
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self) -> None:
        """Send what a crash or an unreachable NATS left, for ever. Raises LeaseLostError."""
        is_reconciled = False
        while True:
            wait_s = LOOK_AGAIN_S
            try:
                await self._publisher.publish_waiting()
                await self._follow_documents()
                if not is_reconciled:
                    is_reconciled = await self._reconcile()
            except LeaseLostError:
                raise
            except (NatsError, ControlPlaneError, OSError) as error:
                log.warning("knowledge_publish_failed", error=type(error).__name__)
                wait_s = RETRY_AFTER_S
            for tenant in self._publisher.lost:
                async with self._locks[tenant]:
                    if tenant in self._publisher.lost:  # not mended meanwhile
                        await self._reissue(tenant)
            raise_if_cancelled()
            await asyncio.sleep(wait_s)

    async def build(self, tenant: str, uploads: Sequence[Upload], caller: Caller) -> Diff:
        """Put items into the draft and make the vectors they lack.

        Raises KnowledgeItemsError and EmbeddingUnavailableError; the draft then is as it was.
        """
        async with self._locks[tenant]:
            model = await self._embedder.model()
            made = {upload.source: await asyncio.to_thread(_bodies, upload) for upload in uploads}
            for found in made.values():
                await self._vectors.embed(model, [body.packed for body in found.values()])
            if await self._database.read(lambda connection: store.draft_model(connection, tenant)) not in {"", model}:
                await self._vectors.embed_draft(tenant, model)

            def write(connection: apsw.Connection) -> None:
                for upload in uploads:
                    bodies = made[upload.source]
                    store.put_bodies(connection, bodies.values())
                    digests = {item_id: body.digest for item_id, body in bodies.items()}
                    missing = store.remove_from_draft(connection, tenant, upload.source, upload.removals)
                    if missing:
                        raise KnowledgeItemsError(f"{upload.source} has no item {missing[0]!r} to remove")
                    store.replace_draft_source(connection, tenant, upload.source, digests, is_patch=upload.is_patch)
                store.put_draft_model(connection, tenant, model)
                names = ", ".join(upload.source for upload in uploads)
                _note(connection, caller, "build", f"{tenant} {names}")

            await self._database.write(write)
            return await self._diff(tenant)

    async def diff(self, tenant: str) -> Diff:
        """What publishing the draft would change. Raises KnowledgeNotFoundError."""
        if tenant not in await self._database.read(store.tenants):
            raise KnowledgeNotFoundError(f"{tenant} has no knowledge here")
        return await self._diff(tenant)

    async def publish(self, tenant: str, caller: Caller, *, snapshot: bool = False) -> Published:
        """Make the draft the next version and send it to all regions of the tenant; nothing is sent if nothing changed.

        Raises KnowledgeNotFoundError, KnowledgeNowhereError, and KnowledgeNotSentError when it is stored but NATS does
        not take it.
        """
        async with self._locks[tenant]:
            return await self._publish(tenant, caller, "publish", snapshot=snapshot)

    async def rollback(self, tenant: str, version: int, caller: Caller) -> Published:
        """Publish what an earlier version held as a new one; replaces the draft. Raises as `publish`."""
        async with self._locks[tenant]:
            if not await self._database.read(lambda connection: store.has_version(connection, tenant, version)):
                raise KnowledgeNotFoundError(f"{tenant} has no version {version}")
            await self._database.write(lambda connection: store.draft_from_version(connection, tenant, version))
            model = await self._database.read(lambda connection: store.draft_model(connection, tenant))
            await self._vectors.embed_draft(tenant, model)
            return await self._publish(tenant, caller, f"rollback to {version}")

    async def status(self, tenant: str) -> list[TenantStatus]:
        """What there is of a tenant, or of all ("")."""
        today = datetime.now(UTC).date().isoformat()

        def read(connection: apsw.Connection) -> list[TenantStatus]:
            return [
                TenantStatus(
                    tenant=name,
                    version=store.newest_version(connection, name),
                    counts=store.counts(connection, name, today),
                    has_draft=bool(store.changes(connection, name)),
                )
                for name in store.tenants(connection)
                if tenant in {"", name}
            ]

        found = await self._database.read(read)
        if tenant and not found:
            raise KnowledgeNotFoundError(f"{tenant} has no knowledge here")
        return found

    async def _diff(self, tenant: str) -> Diff:
        def read(connection: apsw.Connection) -> Diff:
            changes = store.changes(connection, tenant)
            shown = changes[:SHOWN_CHANGES]
            digests = [digest for change in shown if (digest := change.after or change.before) is not None]
            bodies = store.bodies(connection, digests)
            return Diff(
                added=sum(change.before is None for change in changes),
                changed=sum(change.before is not None and change.after is not None for change in changes),
                removed=sum(change.after is None for change in changes),
                items=store.draft_size(connection, tenant),
                examples=tuple(_shown(change, bodies) for change in shown),
            )

        return await self._database.read(read)

    async def _publish(self, tenant: str, caller: Caller, action: str, *, snapshot: bool = False) -> Published:
        regions = self._served(tenant)
        plan = await self._database.read(lambda connection: _plan(connection, tenant))
        if not plan.items:
            raise KnowledgeNotFoundError(f"the draft of {tenant} holds no items")
        has_all = all(plan.versions.get(region, Sent()).version == plan.running for region in regions)
        if plan.running and not plan.changes and has_all and not snapshot:
            return Published(version=plan.running, is_snapshot=False, content_bytes=0, regions=())
        version = _next_version(plan, plan.running)
        messages = await self._messages(plan, version, regions, snapshot=snapshot)

        def write(connection: apsw.Connection) -> None:
            _store(connection, plan, version, messages)
            _note(connection, caller, action, f"{tenant} version {version.version}")

        await self._database.write(write)
        await self._send(tenant, version)
        return Published(
            version=version.version,
            is_snapshot=any(outgoing.object_name is not None for outgoing in messages),
            content_bytes=max(outgoing.content_bytes for outgoing in messages),
            regions=regions,
        )

    def _served(self, tenant: str) -> tuple[str, ...]:
        regions = tuple(self._regions_of(tenant))
        if not regions:
            raise KnowledgeNowhereError(f"no region serves {tenant}")
        return regions

    async def _send(self, tenant: str, version: KnowledgeVersion) -> None:
        text = f"{tenant} version {version.version} is stored, not sent"
        try:
            await self._publisher.publish_waiting()
        except (NatsError, TimeoutError) as error:
            raise KnowledgeNotSentError(text) from error
        if tenant in self._publisher.lost:
            raise KnowledgeNotSentError(text)

    async def _messages(
        self, plan: _Plan, version: KnowledgeVersion, regions: Sequence[str], *, snapshot: bool
    ) -> list[OutgoingMessage]:
        """Make what each region gets: the same delta or the same snapshot, each in a manifest of its own."""
        running = plan.newest
        is_large = len(plan.changes) > SNAPSHOT_SHARE * plan.items
        if running is None or running.model != plan.model or is_large:
            snapshot = True
        delta = b"" if snapshot else await self._delta(plan)
        snapshot = snapshot or len(delta) > LARGEST_DELTA_BYTES
        file: SnapshotFile | None = None
        messages: list[OutgoingMessage] = []
        for region in regions:
            sent = plan.versions.get(region, Sent())
            follows = running is not None and sent.version == running.version
            is_long = version.version - sent.snapshot > MOST_DELTAS
            if snapshot or not follows or is_long or sent.delta_bytes + len(delta) > KNOWLEDGE_BYTES_A_TENANT:
                if file is None:
                    file = await self._snapshot(plan, version)
                messages.append(self._seal.snapshot(plan.tenant, region, version, file))
            else:
                messages.append(self._seal.delta(plan.tenant, region, version, delta))
        return messages

    async def _delta(self, plan: _Plan) -> bytes:
        after = [change.after for change in plan.changes if change.after is not None]
        packed = await self._database.read(lambda connection: store.bodies(connection, after))
        upserts = await self._vectors.complete(plan.model, [packed[digest] for digest in after])
        removals = [(change.source, change.item_id) for change in plan.changes if change.after is None]
        return await asyncio.to_thread(pack_delta, upserts, removals)

    async def _snapshot(self, plan: _Plan, version: KnowledgeVersion) -> SnapshotFile:
        bodies = self._vectors.published_parts if plan.is_published else self._vectors.parts

        async def parts() -> AsyncIterator[Sequence[KnowledgeItem]]:
            async for part in bodies(plan.tenant):
                yield await self._vectors.complete(plan.model, part)

        file = await write_snapshot(self._publisher.directory, plan.tenant, version.version, plan.items, parts())
        if file.packed_bytes > SNAPSHOT_BYTES_A_TENANT:
            await asyncio.to_thread(snapshot_path(self._publisher.directory, file.name).unlink, missing_ok=True)
            size, most = file.packed_bytes // MIB, SNAPSHOT_BYTES_A_TENANT // MIB
            raise KnowledgeItemsError(
                f"the items of {plan.tenant} take {size} MiB as a snapshot, at most {most} may go"
            )
        return file

    async def _follow_documents(self) -> None:
        """Take knowledge away from regions that serve its tenant no longer; one that serves it again is sent it anew.

        Raises NatsError and TimeoutError where it could not be sent: it waits like any other.
        """
        for region, tenant, is_removed in await self._database.read(store.held):
            if is_removed != (region in self._regions_of(tenant)):
                continue
            async with self._locks[tenant]:
                if is_removed:
                    log.info("knowledge_returns", region=region, tenant=tenant)
                    await self._reissue(tenant)
                else:
                    await self._take_away(region, tenant)
                    await self._publisher.publish_waiting()

    async def _take_away(self, region: str, tenant: str) -> None:
        def write(connection: apsw.Connection) -> None:
            version = store.version_sent(connection, region, tenant)
            store.put_removal(connection, self._seal.removal(tenant, region, version))
            _note(connection, _HUB, "take away", f"{tenant} from {region}")

        await self._database.write(write)

    async def _reconcile(self) -> bool:
        """Where NATS has another version than the database, one of them was lost or restored: send what was published
        anew; returns whether that was possible everywhere."""
        is_done = True
        for (region, tenant), version in (await self._database.read(store.newest_messages)).items():
            in_stream = await self._publisher.version_in_stream(region, tenant)
            if in_stream == version or region not in self._regions_of(tenant):
                continue
            async with self._locks[tenant]:
                newest = await self._database.read(store.newest_messages)
                if newest.get((region, tenant)) != version:
                    continue  # sent meanwhile, for another region
                log.warning("knowledge_reissued", region=region, tenant=tenant, had=version, in_stream=in_stream)
                is_done = await self._reissue(tenant, above=in_stream) and is_done
        return is_done

    async def _reissue(self, tenant: str, *, above: int = 0) -> bool:
        """Send what was published last as a snapshot of a new version, in place of all that waits; returns whether it
        could be made. One tenant's trouble is not the others'. Raises LeaseLostError."""
        try:
            await self._send_published(tenant, above)
        except LeaseLostError:
            raise
        except KnowledgeNotSentError:
            return True  # stored: it waits like any other
        except KnowledgeNowhereError:
            await self._database.write(lambda connection: store.drop_waiting(connection, tenant))
            return True
        except (ControlPlaneError, OSError, KeyError) as error:  # KeyError: a vector is missing
            log.error("knowledge_not_reissued", tenant=tenant, error=type(error).__name__)  # noqa: TRY400
            return False
        return True

    async def _send_published(self, tenant: str, above: int) -> None:
        regions = self._served(tenant)
        plan = await self._database.read(lambda connection: _published_plan(connection, tenant))
        version = _next_version(plan, above)
        messages = await self._messages(plan, version, regions, snapshot=True)

        def write(connection: apsw.Connection) -> None:
            store.drop_waiting(connection, tenant)
            _store(connection, plan, version, messages)
            _note(connection, _HUB, "reissue", f"{tenant} version {version.version}")

        await self._database.write(write)
        await self._send(tenant, version)


def _bodies(upload: Upload) -> dict[str, store.Body]:
    try:
        return {item.id: body_of(item) for item in upload.items}
    except ValueError as error:
        raise KnowledgeItemsError(f"{upload.source}: {error}") from error


def _plan(connection: apsw.Connection, tenant: str) -> _Plan:
    return _Plan(
        tenant=tenant,
        changes=store.changes(connection, tenant),
        items=store.draft_size(connection, tenant),
        newest=store.newest_version(connection, tenant),
        model=store.draft_model(connection, tenant),
        versions=store.sent(connection, tenant),
    )


def _published_plan(connection: apsw.Connection, tenant: str) -> _Plan:
    newest = store.newest_version(connection, tenant)
    if newest is None:
        raise KnowledgeNotFoundError(f"{tenant} has no version")
    return _Plan(
        tenant=tenant,
        changes=[],
        items=store.published_size(connection, tenant),
        newest=newest,
        model=newest.model,
        versions=store.sent(connection, tenant),
        is_published=True,
    )


def _next_version(plan: _Plan, above: int) -> KnowledgeVersion:
    return KnowledgeVersion(
        version=max(plan.running, above) + 1,
        created_at_ms=time.time_ns() // 1_000_000,
        items=plan.items,
        model=plan.model,
    )


def _store(
    connection: apsw.Connection, plan: _Plan, version: KnowledgeVersion, messages: Sequence[OutgoingMessage]
) -> None:
    store.store_version(connection, plan.tenant, version, plan.changes)
    for outgoing in messages:
        store.put_message(connection, outgoing)


def _shown(change: ItemChange, bodies: Mapping[bytes, bytes]) -> str:
    kind = "added" if change.before is None else "removed" if change.after is None else "changed"
    digest = change.after or change.before
    assert digest is not None
    title = KnowledgeItem.FromString(bodies[digest]).title
    return f"{kind} {change.source}/{change.item_id} {title}"


def _note(connection: apsw.Connection, caller: Caller, action: str, target: str) -> None:
    append_entry(connection, actor=caller.name, role=caller.role, action=f"knowledge.{action}", target=target)
