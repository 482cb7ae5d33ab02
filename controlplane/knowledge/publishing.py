"""Takes knowledge from the outbox to NATS: the snapshot first, then the message that names it.

Idempotent: a message that is sent twice carries the same id, an object that is there is not sent again.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Protocol

import apsw
import structlog
from google.protobuf.message import DecodeError
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError
from nats.js.object_store import ObjectStore

from contract.downlink_pb2 import KnowledgeManifest, KnowledgeMessage
from contract.subjects import knowledge, knowledge_stream, snapshot_bucket
from controlplane.database import HubDatabase
from controlplane.knowledge import store
from controlplane.knowledge.content import snapshot_path
from controlplane.knowledge.store import OutgoingMessage

log = structlog.get_logger(__name__)

PUBLISH_WITHIN_S = 2.0
# The newest and the one before: a node may just be fetching it.
KEPT_OBJECTS = 2


class Held(Protocol):
    """The lease of the hub; raises LeaseLostError."""

    def check(self) -> None: ...


class KnowledgePublisher:
    """Sends what waits, for as long as the lease is held. `directory` holds the snapshots that wait."""

    def __init__(self, database: HubDatabase, jetstream: JetStreamContext, lease: Held, directory: Path) -> None:
        self._database = database
        self._jetstream = jetstream
        self._lease = lease
        self._sending = asyncio.Lock()
        self.directory = directory
        # Tenants of which a snapshot that waits is not on this disk: who made it died before it was sent.
        self.lost: frozenset[str] = frozenset()

    async def publish_waiting(self) -> int:
        """Send what waits, in the order of versions; returns how many.

        A region that cannot be served does not keep the others waiting: its error is raised at the end. What waits for
        a snapshot whose file is gone goes on waiting, and its tenant is among `lost`. Raises NatsError, TimeoutError
        and LeaseLostError.
        """
        async with self._sending:
            waiting = await self._database.read(store.waiting)
            failed: dict[tuple[str, str], NatsError | OSError] = {}
            for outgoing in waiting:
                key = (outgoing.region, outgoing.tenant)
                if key in failed:
                    continue
                self._lease.check()
                try:
                    await self._send(outgoing)
                except (NatsError, TimeoutError, FileNotFoundError) as error:
                    failed[key] = error
            self.lost = frozenset(
                tenant for (_, tenant), found in failed.items() if isinstance(found, FileNotFoundError)
            )
            await self._forget_sent({outgoing.object_name for outgoing in waiting if outgoing.object_name is not None})
            for found in failed.values():
                if not isinstance(found, FileNotFoundError):
                    raise found
            return len(waiting)

    async def _forget_sent(self, names: set[str]) -> None:
        """Remove the files of snapshots that every region has."""
        left = {outgoing.object_name for outgoing in await self._database.read(store.waiting)}
        for name in names - left:
            await asyncio.to_thread(snapshot_path(self.directory, name).unlink, missing_ok=True)

    async def version_in_stream(self, region: str, tenant: str) -> int:
        """Return the newest version that NATS holds for a region, 0 if there is none."""
        try:
            found = await self._jetstream.get_last_msg(knowledge_stream(region), knowledge(region, tenant))
        except NotFoundError:
            return 0
        try:
            manifest = KnowledgeManifest.FromString(KnowledgeMessage.FromString(found.data or b"").manifest.body)
        except DecodeError:
            return 0
        return int(manifest.version)

    async def _send(self, outgoing: OutgoingMessage) -> None:
        if outgoing.is_removal:
            await self._take_away(outgoing)
            return
        bucket = None
        if outgoing.object_name is not None:
            bucket = await self._jetstream.object_store(snapshot_bucket(outgoing.region))
            await self._upload(bucket, outgoing.object_name)
        ack = await self._jetstream.publish(
            knowledge(outgoing.region, outgoing.tenant),
            outgoing.message,
            timeout=PUBLISH_WITHIN_S,
            stream=knowledge_stream(outgoing.region),
            headers={"Nats-Msg-Id": f"knowledge-{outgoing.region}-{outgoing.tenant}-{outgoing.version}"},
        )
        await self._database.write(lambda connection: store.mark_published(connection, outgoing))
        log.info(
            "knowledge_published",
            region=outgoing.region,
            tenant=outgoing.tenant,
            version=outgoing.version,
            is_snapshot=outgoing.object_name is not None,
            content_bytes=outgoing.content_bytes,
            is_repeated=bool(ack.duplicate),
        )
        if bucket is not None:
            await self._drop_old(bucket, outgoing)
            # Nobody needs a tenant's messages before its snapshot; the room is all tenants'.
            subject = knowledge(outgoing.region, outgoing.tenant)
            await self._jetstream.purge_stream(knowledge_stream(outgoing.region), subject=subject, seq=ack.seq)

    async def _take_away(self, removal: OutgoingMessage) -> None:
        """Tell the region, then leave nothing before it; each step may be done twice."""
        region, tenant = removal.region, removal.tenant
        await self._jetstream.publish(
            knowledge(region, tenant),
            removal.message,
            timeout=PUBLISH_WITHIN_S,
            stream=knowledge_stream(region),
            headers={"Nats-Msg-Id": f"knowledge-{region}-{tenant}-{removal.version}-removed"},
        )
        await self._jetstream.purge_stream(knowledge_stream(region), subject=knowledge(region, tenant), keep=1)
        bucket = await self._jetstream.object_store(snapshot_bucket(region))
        for name in await self._database.read(lambda connection: store.objects(connection, region, tenant)):
            with contextlib.suppress(NotFoundError):
                await bucket.delete(name)

        def forget(connection: apsw.Connection) -> None:
            store.forget_before_removal(connection, removal)
            store.mark_published(connection, removal)

        await self._database.write(forget)
        log.info("knowledge_taken_away", region=region, tenant=tenant, version=removal.version)

    async def _upload(self, bucket: ObjectStore, name: str) -> None:
        try:
            await bucket.get_info(name)
        except NotFoundError:
            with await asyncio.to_thread(snapshot_path(self.directory, name).open, "rb") as stream:
                await bucket.put(name, stream)

    async def _drop_old(self, bucket: ObjectStore, outgoing: OutgoingMessage) -> None:
        names = await self._database.read(
            lambda connection: store.objects(connection, outgoing.region, outgoing.tenant)
        )
        for name in names[KEPT_OBJECTS:]:
            try:
                await bucket.delete(name)
            except NotFoundError:
                # They were dropped in this order: all older ones are gone, too.
                return
