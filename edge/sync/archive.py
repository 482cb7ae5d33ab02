"""What the region's mirrors still hold of a tenant's knowledge: earlier messages, and the files of snapshots."""

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from nats.aio.client import Client
from nats.js.api import DeliverPolicy
from nats.js.client import JetStreamContext
from nats.js.errors import NotFoundError

from contract import subjects, uplink_pb2
from edge.sync.connection import NATS_ERRORS
from edge.sync.errors import RefusedError
from edge.sync.jetstream import consuming

_HISTORY_WITHIN_S = 60.0
# The snapshot's own stream may lag behind the message that names it.
_APPEARS_WITHIN_S = 20.0
_APPEARS_LOOK_S = 0.2
# Between one chunk and the next, which lie on this server or its neighbour's.
_CHUNK_WITHIN_S = 10.0


class Link(Protocol):
    """A connection to the region's JetStream."""

    @property
    def client(self) -> Client: ...
    async def ready(self) -> JetStreamContext: ...


class KnowledgeArchive:
    """Reads the mirrored knowledge stream and object store of a region."""

    def __init__(self, link: Link, region: str, *, snapshot_limit_bytes: int) -> None:
        self._link = link
        self._region = region
        self._bucket = subjects.snapshot_bucket(region)
        self._limit_bytes = snapshot_limit_bytes

    async def history(self, tenant: str, take: Callable[[bytes], None]) -> None:
        """Hand over all messages of a tenant that the mirror holds, oldest first. Raises NATS_ERRORS."""
        await self._link.ready()
        async with asyncio.timeout(_HISTORY_WITHIN_S):
            async with consuming(
                self._link.client,
                subjects.knowledge_stream(self._region),
                subject=subjects.knowledge(self._region, tenant),
                policy=DeliverPolicy.ALL,
            ) as messages:
                async for consumed in messages:
                    take(consumed.message.data)
                    if consumed.pending == 0:
                        break

    async def forget(self, tenant: str, snapshots: Iterable[str]) -> None:
        """Leave of a tenant's messages the newest only, and nothing of the snapshots of these names. Raises
        NATS_ERRORS."""
        js = await self._link.ready()
        stream = subjects.object_stream(self._bucket)
        for name in snapshots:
            entry = f"$O.{self._bucket}.M.{_key(name)}"
            with contextlib.suppress(NotFoundError, ValueError, KeyError):
                meta = json.loads((await js.get_last_msg(stream, entry)).data or b"{}")
                await js.purge_stream(stream, subject=f"$O.{self._bucket}.C.{meta['nuid']}")
            await js.purge_stream(stream, subject=entry)
        subject = subjects.knowledge(self._region, tenant)
        await js.purge_stream(subjects.knowledge_stream(self._region), subject=subject, keep=1)

    async def fetch(self, name: str, target: Path) -> None:
        """Write the object of this name (the hex SHA-256 of its content) to a file.

        Raises RefusedError (INCOMPLETE when it is not all here, DIGEST, MALFORMED when too large) and OSError.
        """
        try:
            meta = await self._meta(name)
            size, nuid = int(str(meta["size"])), str(meta["nuid"])
            if size > self._limit_bytes:
                raise RefusedError(uplink_pb2.REFUSAL_MALFORMED, f"the snapshot has {size} bytes")
            digest = await self._write(nuid, size, target)
        except (KeyError, ValueError) as error:
            raise RefusedError(uplink_pb2.REFUSAL_MALFORMED, "the object store's entry cannot be read") from error
        except NATS_ERRORS as error:
            raise RefusedError(uplink_pb2.REFUSAL_INCOMPLETE, "the snapshot is not here yet") from error
        if digest != name:
            raise RefusedError(uplink_pb2.REFUSAL_DIGEST, "the snapshot is not what its name says")

    async def _meta(self, name: str) -> dict[str, object]:
        key = _key(name)
        js = await self._link.ready()
        async with asyncio.timeout(_APPEARS_WITHIN_S):
            while True:
                try:
                    message = await js.get_last_msg(subjects.object_stream(self._bucket), f"$O.{self._bucket}.M.{key}")
                    return dict(json.loads(message.data or b"{}"))
                except NATS_ERRORS:
                    await asyncio.sleep(_APPEARS_LOOK_S)

    async def _write(self, nuid: str, size: int, target: Path) -> str:
        digest, written = hashlib.sha256(), 0
        loop = asyncio.get_running_loop()
        with target.open("wb") as file:
            async with (
                asyncio.timeout(_CHUNK_WITHIN_S) as deadline,
                consuming(
                    self._link.client,
                    subjects.object_stream(self._bucket),
                    subject=f"$O.{self._bucket}.C.{nuid}",
                    policy=DeliverPolicy.ALL,
                ) as messages,
            ):
                async for consumed in messages:
                    chunk = consumed.message.data
                    written += len(chunk)
                    if written > size:
                        raise RefusedError(uplink_pb2.REFUSAL_DIGEST, "the snapshot is longer than announced")
                    await asyncio.to_thread(file.write, chunk)
                    digest.update(chunk)
                    # The entry comes after its chunks: what is not here by now was dropped and does not come.
                    if written == size or consumed.pending == 0:
                        break
                    deadline.reschedule(loop.time() + _CHUNK_WITHIN_S)
        if written < size:
            raise RefusedError(uplink_pb2.REFUSAL_INCOMPLETE, f"{written} of {size} bytes are here")
        return digest.hexdigest()


def _key(name: str) -> str:
    """How the directory of an object store spells a name."""
    return base64.urlsafe_b64encode(name.encode()).decode()
