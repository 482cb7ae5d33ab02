"""Takes the items of sources to the hub: all of them at first, then only what changed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path

import watchfiles

from contract import admin_pb2 as pb
from contract.knowledge_items import Item, as_json_line
from controlplane.knowledge.sources import Source, SourceReader

_PIECE_BYTES = 256 * 1024
# Editors and exports write several times; a change is taken when it has been quiet for so long.
DEBOUNCE_MS = 1000


class Uploader:
    """Knows what the hub's draft got from here, so that it need not be sent again."""

    def __init__(self, tenant: str, sources: Sequence[Source], reader: SourceReader) -> None:
        self._tenant = tenant
        self._sources = sources
        self._reader = reader
        self._sent: dict[str, dict[str, str]] = {}

    async def requests(self) -> list[pb.BuildRequest]:
        """Read all sources and return what to send: everything at first, then the difference; empty if there is none.

        Raises KnowledgeSourceError; what was read before then counts as not sent.
        """
        requests: list[pb.BuildRequest] = []
        taken: dict[str, dict[str, str]] = {}
        for source in self._sources:
            items = await self._reader.read(source)
            if items is not None:
                found, taken[source.name] = await asyncio.to_thread(self._difference, source.name, items)
                requests += found
        self._sent |= taken
        return requests

    def forget(self) -> None:
        """The hub did not take what was sent: send everything again."""
        self._sent.clear()
        self._reader.forget()

    def _difference(self, source: str, items: Sequence[Item]) -> tuple[list[pb.BuildRequest], dict[str, str]]:
        lines = {item.id: as_json_line(item) for item in items}
        before = self._sent.get(source)
        if before is None:
            header = pb.BuildHeader(tenant=self._tenant, source=source)
            return [pb.BuildRequest(header=header), *_pieces(lines.values())], lines
        changed = [line for item_id, line in lines.items() if before.get(item_id) != line]
        removals = sorted(before.keys() - lines.keys())
        if not changed and not removals:
            return [], lines
        header = pb.BuildHeader(tenant=self._tenant, source=source, is_patch=True, removals=removals)
        return [pb.BuildRequest(header=header), *_pieces(changed)], lines


async def watch(sources: Sequence[Source], act: Callable[[], Awaitable[None]], *, every_s: float) -> None:
    """Call `act` when files or folders changed and were quiet again, and every so often if there are feeds.
    Runs until cancelled."""
    wake = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        if any(source.path is not None for source in sources):
            tasks.create_task(_on_change(sources, wake), name="knowledge:files")
        if any(source.url is not None for source in sources):
            tasks.create_task(_on_time(every_s, wake), name="knowledge:feeds")
        while True:
            await wake.wait()
            wake.clear()
            await act()


async def _on_change(sources: Sequence[Source], wake: asyncio.Event) -> None:
    files = [source.path.absolute() for source in sources if source.path is not None and not source.path.is_dir()]
    folders = [source.path.absolute() for source in sources if source.path is not None and source.path.is_dir()]

    def is_ours(change: watchfiles.Change, path: str) -> bool:
        del change
        return Path(path) in files or any(Path(path).is_relative_to(folder) for folder in folders)

    # Of a file its folder: editors replace files.
    paths = {*folders, *(file.parent for file in files)}
    async for _ in watchfiles.awatch(
        *paths, watch_filter=is_ours, recursive=bool(folders), debounce=DEBOUNCE_MS, step=DEBOUNCE_MS // 4
    ):
        wake.set()


async def _on_time(period_s: float, wake: asyncio.Event) -> None:
    while True:
        await asyncio.sleep(period_s)
        wake.set()


def _pieces(lines: Iterable[str]) -> list[pb.BuildRequest]:
    pieces: list[pb.BuildRequest] = []
    piece = bytearray()
    for line in lines:
        piece += line.encode() + b"\n"
        if len(piece) >= _PIECE_BYTES:
            pieces.append(pb.BuildRequest(jsonl=bytes(piece)))
            piece.clear()
    return [*pieces, pb.BuildRequest(jsonl=bytes(piece))] if piece else pieces
