"""Snapshots read from an object store that has lost some of its chunks, on a real server."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from contract import subjects, uplink_pb2
from edge.sync.archive import KnowledgeArchive
from edge.sync.errors import RefusedError
from tests.controlplane.nats_server import NatsServer, connected
from tests.edge.sync.hub import REGION

NAME = "a" * 64
BUCKET = subjects.snapshot_bucket(REGION)


class PlainLink:
    """A connection without certificates."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def ready(self) -> JetStreamContext:
        return self.client.jetstream()


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[PlainLink]:
    server = NatsServer(tmp_path / "nats")
    await server.start()
    async with connected(server) as client:
        yield PlainLink(client)
    await server.stop()


@pytest.mark.parametrize("deleted", [(1,), (3,), (1, 2, 3)], ids=["first", "last", "all"])
async def test_a_snapshot_with_missing_chunks_is_incomplete_and_nobody_waits_for_them(
    link: PlainLink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: tuple[int, ...]
) -> None:
    monkeypatch.setattr("edge.sync.archive._CHUNK_WITHIN_S", 2.0)
    js = link.client.jetstream()
    await (await js.create_object_store(BUCKET)).put(NAME, os.urandom(3 * 128 * 1024))
    for sequence in deleted:
        await js.delete_msg(subjects.object_stream(BUCKET), sequence)
    archive = KnowledgeArchive(link, REGION, snapshot_limit_bytes=10**9)
    async with asyncio.timeout(10):
        with pytest.raises(RefusedError) as caught:
            await archive.fetch(NAME, tmp_path / "snapshot")
    assert caught.value.refusal == uplink_pb2.REFUSAL_INCOMPLETE
