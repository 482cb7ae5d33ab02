"""The bench's hand on the hub: the admin API, as an admin's command line uses it."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
import grpc.aio

from contract import admin_pb2
from contract.admin_pb2_grpc import DocumentsStub, FleetStub, KnowledgeStub, MetricsStub
from controlplane.cli.connection import open_channel
from provisioning.local.layout import StateLayout

# Lines of an upload that travel in one message.
UPLOAD_LINES = 500


class Hub:
    """A connection to the hub of the machine that `borough up` runs. Raises grpc.aio.AioRpcError."""

    def __init__(self, layout: StateLayout) -> None:
        self._context = layout.admin_context

    async def __aenter__(self) -> Self:
        self._channel = open_channel(self._context)
        self._documents = DocumentsStub(self._channel)
        self._fleet = FleetStub(self._channel)
        self._knowledge = KnowledgeStub(self._channel)
        self._metrics = MetricsStub(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._channel.close()

    async def apply(self, documents: Mapping[str, str]) -> admin_pb2.ApplyReply:
        """Apply YAML texts by the name of their file."""
        sources = [admin_pb2.SourceDocument(file=file, yaml=text.encode()) for file, text in documents.items()]
        return await self._documents.Apply(admin_pb2.ApplyRequest(documents=sources))

    async def document(self, kind: str, tenant: str, name: str) -> str:
        """The newest YAML of a document."""
        stored = await self._documents.Get(admin_pb2.DocumentRef(kind=kind, tenant=tenant, name=name))
        return stored.yaml.decode()

    async def fleet(self) -> Sequence[admin_pb2.RegionStatus]:
        return (await self._fleet.Status(admin_pb2.FleetRequest())).regions

    async def build(
        self, tenant: str, source: str, lines: Iterable[str], *, is_patch: bool = False
    ) -> admin_pb2.KnowledgeDiff:
        """Upload items (JSON lines) into the tenant's draft."""
        return await self._knowledge.Build(_upload(tenant, source, lines, is_patch=is_patch))

    async def publish(self, tenant: str, *, is_snapshot: bool = False) -> admin_pb2.PublishReply:
        return await self._knowledge.Publish(admin_pb2.PublishRequest(tenant=tenant, snapshot=is_snapshot))

    async def calls_by_region(self) -> dict[str, int]:
        """All calls that the hub ever counted."""
        counted: dict[str, int] = {}
        for row in (await self._metrics.Query(admin_pb2.MetricsRequest())).rows:
            counted[row.region] = counted.get(row.region, 0) + row.calls
        return counted


async def _upload(
    tenant: str, source: str, lines: Iterable[str], *, is_patch: bool
) -> AsyncIterator[admin_pb2.BuildRequest]:
    yield admin_pb2.BuildRequest(header=admin_pb2.BuildHeader(tenant=tenant, source=source, is_patch=is_patch))
    waiting: list[str] = []
    for line in lines:
        waiting.append(line)
        if len(waiting) == UPLOAD_LINES:
            yield admin_pb2.BuildRequest(jsonl=_join(waiting))
            waiting.clear()
    if waiting:
        yield admin_pb2.BuildRequest(jsonl=_join(waiting))


def _join(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
