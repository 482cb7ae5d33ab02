"""The vectors of items: made once for each text and model, stored, and put to the items when a version is made."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

import apsw

from contract.downlink_pb2 import KnowledgeItem
from contract.knowledge_vectors import Vector, quantised
from controlplane.database import HubDatabase
from controlplane.knowledge import store
from controlplane.knowledge.content import text_digest, texts_in, with_vectors
from controlplane.knowledge.embedding import Embedder

_PART_ITEMS = 2000
_EMBEDDED_AT_ONCE = 512

_Part = list[tuple[store.ItemKey, bytes]]
_ReadPart = Callable[[apsw.Connection, str, store.ItemKey, int], _Part]


class DraftVectors:
    """Reads drafts and completes their items. The caller sees that a draft stays as it is meanwhile."""

    def __init__(self, database: HubDatabase, embedder: Embedder) -> None:
        self._database = database
        self._embedder = embedder

    async def complete(self, model: str, packed: Sequence[bytes]) -> list[KnowledgeItem]:
        """Return bodies as they go to the regions; all their vectors must be made."""

        def read(connection: apsw.Connection) -> list[KnowledgeItem]:
            texts = list({text_digest(text) for body in packed for text in texts_in(body)})
            vectors = store.vectors(connection, model, texts)
            return [with_vectors(body, vectors) for body in packed]

        return await self._database.read(read)

    async def parts(self, tenant: str) -> AsyncIterator[list[bytes]]:
        """Yield the bodies of the draft; the tenant's lock keeps it as it is meanwhile."""
        async for part in self._walk(store.draft_part, tenant):
            yield part

    async def published_parts(self, tenant: str) -> AsyncIterator[list[bytes]]:
        """Yield the bodies of the newest version; the tenant's lock keeps it as it is meanwhile."""
        async for part in self._walk(store.published_part, tenant):
            yield part

    async def _walk(self, read: _ReadPart, tenant: str) -> AsyncIterator[list[bytes]]:
        last = ("", "")
        while True:
            part = await self._database.read(_part_reader(read, tenant, last))
            if not part:
                return
            last = part[-1][0]
            yield [body for _, body in part]

    async def embed_draft(self, tenant: str, model: str) -> None:
        """Make the vectors that a draft lacks. Raises EmbeddingUnavailableError."""
        async for part in self.parts(tenant):
            await self.embed(model, part)

    async def embed(self, model: str, packed: Iterable[bytes]) -> None:
        """Make and store the vectors that bodies lack. Raises EmbeddingUnavailableError."""
        texts = await asyncio.to_thread(_texts, packed)
        missing = await self._database.read(lambda connection: store.without_vectors(connection, model, texts))
        for start in range(0, len(missing), _EMBEDDED_AT_ONCE):
            part = missing[start : start + _EMBEDDED_AT_ONCE]
            vectors = quantised(await self._embedder.embed([texts[digest] for digest in part]))
            await self._database.write(_vector_writer(model, dict(zip(part, vectors, strict=True))))


def _texts(packed: Iterable[bytes]) -> dict[bytes, str]:
    return {text_digest(text): text for body in packed for text in texts_in(body)}


def _part_reader(read: _ReadPart, tenant: str, after: store.ItemKey) -> Callable[[apsw.Connection], _Part]:
    return lambda connection: read(connection, tenant, after, _PART_ITEMS)


def _vector_writer(model: str, made: Mapping[bytes, Vector]) -> Callable[[apsw.Connection], None]:
    return lambda connection: store.put_vectors(connection, model, made)
