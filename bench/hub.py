"""The bench's hand on the hub: the admin API, as an admin's command line uses it."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

from contract import admin_pb2 as pb
from contract.admin_pb2_grpc import DocumentsStub, FleetStub, KnowledgeStub, MetricsStub
from controlplane.cli.connection import admin_channel, hub_errors
from provisioning.local.layout import StateLayout

# The first build of a large catalogue computes a vector for every text.
WITHIN_S = 1_800.0
# Lines of an upload that travel in one message.
UPLOAD_LINES = 500

Reply = TypeVar("Reply")


class Hub:
    """A connection to the hub of the machine that `borough up` runs. Raises HubRefusedError or HubUnreachableError."""

    def __init__(self, layout: StateLayout) -> None:
        self._channel = admin_channel(layout.admin_context)
        self._documents = DocumentsStub(self._channel)
        self._fleet = FleetStub(self._channel)
        self._knowledge = KnowledgeStub(self._channel)
        self._metrics = MetricsStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._channel.close)

    async def apply(self, documents: Mapping[str, str]) -> pb.ApplyReply:
        """Apply YAML texts by the name of their file."""
        sources = [pb.SourceDocument(file=file, yaml=text.encode()) for file, text in documents.items()]
        return await _asked(self._documents.Apply, pb.ApplyRequest(documents=sources))

    async def document(self, kind: str, tenant: str, name: str) -> str:
        """The newest YAML of a document."""
        ref = pb.DocumentRef(kind=kind, tenant=tenant, name=name)
        stored: pb.StoredDocument = await _asked(self._documents.Get, ref)
        return stored.yaml.decode()

    async def fleet(self) -> Sequence[pb.RegionStatus]:
        reply: pb.FleetReply = await _asked(self._fleet.Status, pb.FleetRequest())
        return reply.regions

    async def build(
        self, tenant: str, source: str, lines: Iterable[str], *, is_patch: bool = False
    ) -> pb.KnowledgeDiff:
        """Upload items (JSON lines) into the tenant's draft."""
        return await _asked(self._knowledge.Build, _upload(tenant, source, lines, is_patch=is_patch))

    async def publish(self, tenant: str, *, is_snapshot: bool = False) -> pb.PublishReply:
        return await _asked(self._knowledge.Publish, pb.PublishRequest(tenant=tenant, snapshot=is_snapshot))

    async def calls_by_region(self) -> dict[str, int]:
        """All calls that the hub ever counted."""
        counted: dict[str, int] = {}
        for row in (await _asked(self._metrics.Query, pb.MetricsRequest(since_ms=1))).rows:
            counted[row.region] = counted.get(row.region, 0) + row.calls
        return counted


async def _asked(method: Callable[..., Reply], request: object) -> Reply:
    """Ask in a thread: the admin's client library blocks."""

    def ask() -> Reply:
        with hub_errors():
            return method(request, timeout=WITHIN_S)

    return await asyncio.to_thread(ask)


def _upload(tenant: str, source: str, lines: Iterable[str], *, is_patch: bool) -> Iterator[pb.BuildRequest]:
    yield pb.BuildRequest(header=pb.BuildHeader(tenant=tenant, source=source, is_patch=is_patch))
    waiting: list[str] = []
    for line in lines:
        waiting.append(line)
        if len(waiting) == UPLOAD_LINES:
            yield pb.BuildRequest(jsonl=_join(waiting))
            waiting.clear()
    if waiting:
        yield pb.BuildRequest(jsonl=_join(waiting))


def _join(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()
