"""The Knowledge service of the admin API: messages in, KnowledgeLibrary, messages out."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import KnowledgeServicer
from contract.knowledge_items import ItemError, parse_items
from contract.names import is_name
from controlplane.admin.callers import CallContext, Caller, Role, require
from controlplane.knowledge.errors import KnowledgeItemsError
from controlplane.knowledge.library import Diff, KnowledgeLibrary, Published, TenantStatus, Upload

# 80,000 items are 40 MB.
LARGEST_UPLOAD_BYTES = 512 * 2**20

Authorize = Callable[[CallContext, Role], Caller]


class KnowledgeService(KnowledgeServicer):
    """Operators build, publish and go back; viewers look."""

    def __init__(self, library: KnowledgeLibrary, authorize: Authorize = require) -> None:
        self._library = library
        self._authorize = authorize

    async def Build(self, request_iterator: AsyncIterator[pb.BuildRequest], context: CallContext) -> pb.KnowledgeDiff:  # noqa: N802
        caller = self._authorize(context, Role.OPERATOR)
        began = time.monotonic()
        tenant, uploads = await _read_uploads(request_iterator)
        return _diff(tenant, await self._library.build(tenant, uploads, caller), time.monotonic() - began)

    async def Diff(self, request: pb.TenantRef, context: CallContext) -> pb.KnowledgeDiff:  # noqa: N802
        self._authorize(context, Role.VIEWER)
        began = time.monotonic()
        return _diff(request.tenant, await self._library.diff(request.tenant), time.monotonic() - began)

    async def Publish(self, request: pb.PublishRequest, context: CallContext) -> pb.PublishReply:  # noqa: N802
        caller = self._authorize(context, Role.OPERATOR)
        done = await self._library.publish(request.tenant, caller, snapshot=request.snapshot)
        return _published(request.tenant, done)

    async def Rollback(self, request: pb.KnowledgeRollbackRequest, context: CallContext) -> pb.PublishReply:  # noqa: N802
        caller = self._authorize(context, Role.OPERATOR)
        return _published(request.tenant, await self._library.rollback(request.tenant, request.version, caller))

    async def Status(self, request: pb.TenantRef, context: CallContext) -> pb.KnowledgeStatusReply:  # noqa: N802
        self._authorize(context, Role.VIEWER)
        found = await self._library.status(request.tenant)
        return pb.KnowledgeStatusReply(tenants=[_status(one) for one in found])


async def _read_uploads(parts: AsyncIterator[pb.BuildRequest]) -> tuple[str, list[Upload]]:
    """Read a stream of headers, each followed by its JSON lines. Raises KnowledgeItemsError."""
    headers: list[pb.BuildHeader] = []
    contents: list[bytearray] = []
    size = 0
    async for part in parts:
        if part.WhichOneof("part") == "header":
            headers.append(part.header)
            contents.append(bytearray())
        elif not headers:
            raise KnowledgeItemsError("items came before their header")
        else:
            size += len(part.jsonl)
            if size > LARGEST_UPLOAD_BYTES:
                raise KnowledgeItemsError(f"more than {LARGEST_UPLOAD_BYTES} bytes of items")
            contents[-1] += part.jsonl
    tenants = {header.tenant for header in headers}
    sources = [header.source for header in headers]
    if len(tenants) != 1 or not all(map(is_name, (*tenants, *sources))) or len(set(sources)) != len(sources):
        raise KnowledgeItemsError("a build is of one tenant, each of its sources named once")
    uploads = [
        await asyncio.to_thread(_upload, header, bytes(content))
        for header, content in zip(headers, contents, strict=True)
    ]
    return tenants.pop(), uploads


def _upload(header: pb.BuildHeader, content: bytes) -> Upload:
    if header.removals and not header.is_patch:
        raise KnowledgeItemsError(f"{header.source}: only a patch removes items by id")
    try:
        text = content.decode()
        items = parse_items(text, "jsonl", header.source) if text.strip() or not header.is_patch else ()
    except ItemError as error:
        raise KnowledgeItemsError(f"{header.source}:{error.line}: {error.message}") from error
    except UnicodeDecodeError as error:
        raise KnowledgeItemsError(f"{header.source}: is not UTF-8: {error.reason}") from error
    return Upload(source=header.source, items=items, removals=tuple(header.removals), is_patch=header.is_patch)


def _diff(tenant: str, diff: Diff, took_s: float) -> pb.KnowledgeDiff:
    return pb.KnowledgeDiff(
        tenant=tenant,
        added=diff.added,
        changed=diff.changed,
        removed=diff.removed,
        items=diff.items,
        examples=diff.examples,
        took_s=took_s,
    )


def _published(tenant: str, done: Published) -> pb.PublishReply:
    return pb.PublishReply(
        tenant=tenant,
        version=done.version,
        is_snapshot=done.is_snapshot,
        content_bytes=done.content_bytes,
        regions=done.regions,
    )


def _status(found: TenantStatus) -> pb.TenantKnowledge:
    version = found.version
    return pb.TenantKnowledge(
        tenant=found.tenant,
        version=version.version if version is not None else 0,
        created_at_ms=version.created_at_ms if version is not None else 0,
        items=version.items if version is not None else 0,
        valid=found.counts.valid,
        expired=found.counts.expired,
        future=found.counts.future,
        has_draft=found.has_draft,
    )
