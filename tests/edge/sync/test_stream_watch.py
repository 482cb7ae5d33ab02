"""Streams of a region that are none of ours are counted and deleted, on real servers; those that are ours are not."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from nats.js.api import KeyValueConfig
from nats.js.errors import NotFoundError

from contract import subjects
from contract.litestream_config import DatabaseKind, database_bucket
from contract.nats_log import RefusalKind
from contract.region_streams import is_in_region, is_mirror
from contract.streams import mirrors
from edge.sync.connection import NatsLink
from edge.sync.jetstream import api_request
from edge.sync.lock import RegionLock
from edge.sync.mirrors import Mirrors
from edge.sync.settings import HubSection
from edge.sync.stream_watch import StreamWatch
from tests.edge.sync.hub import REGION
from tests.edge.sync.played import settings_of
from tests.nats_network import Network, eventually, nats_network

MIRROR = mirrors(REGION)[0]
BUCKET = database_bucket("in-south-1", DatabaseKind.RECORDS, "acme_bank")
STORE = subjects.object_stream(BUCKET)


@dataclass
class Watched:
    """A region that is watched, the watcher's connections, and what it counted."""

    network: Network
    agent: NatsLink
    border: NatsLink
    watch: StreamWatch
    refused: Counter[RefusalKind] = field(default_factory=Counter)

    async def create(self, **config: object) -> None:
        name = config["name"]
        await api_request(self.agent.client, f"$JS.API.STREAM.CREATE.{name}", config)

    async def until_counted(self, count: int) -> None:
        """What is seen while the watch begins, in the list and as news, counts twice."""

        async def is_counted() -> bool:
            return set(self.refused) == {RefusalKind.STREAM} and self.refused[RefusalKind.STREAM] >= count

        await eventually(is_counted)

    async def until_gone(self, link: NatsLink, stream: str) -> None:
        async def is_gone() -> bool:
            try:
                await link.client.jetstream().stream_info(stream)
            except NotFoundError:
                return True
            return False

        await eventually(is_gone)


@asynccontextmanager
async def watched(root: Path) -> AsyncIterator[Watched]:
    async with nats_network(root, {REGION: 1}) as network:
        await network.make_streams()
        settings = settings_of(network, root, 1, hub=HubSection(trusted_keys=(root,)))
        prefix = subjects.inbox(settings.node.region, settings.node.name)
        agent = NatsLink("agent", settings.nats, settings.nats.agent)
        border = NatsLink("border", settings.nats, settings.nats.border, inbox_prefix=prefix)
        refused: Counter[RefusalKind] = Counter()
        watch = StreamWatch(region=REGION, agent=agent, border=border, refused=lambda kind: refused.update([kind]))
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(work.run()) for work in (agent, border, watch)]
            await agent.ready()
            await border.ready()
            yield Watched(network, agent, border, watch, refused)
            for task in running:
                task.cancel()


async def test_what_nodes_make_is_left_alone(tmp_path: Path) -> None:
    async with watched(tmp_path) as w:
        js = w.agent.client.jetstream()
        await js.create_object_store(BUCKET)
        for bucket in (subjects.LOCK_BUCKET, subjects.RECENT_CALLERS_BUCKET, subjects.SESSIONS_BUCKET):
            await js.create_key_value(KeyValueConfig(bucket=bucket, ttl=30))
        await w.watch.look()
        assert len(await js.streams_info()) == 4
        border = w.border.client.jetstream()
        assert len([await border.stream_info(spec.name) for spec in mirrors(REGION)]) == 3
        assert w.refused == {}


async def test_what_is_none_of_ours_is_counted_and_deleted(tmp_path: Path) -> None:
    """As it is made, and where nobody heard of it when it is looked for."""
    async with watched(tmp_path) as w:
        await w.create(name="ECHO", subjects=["words.>"], republish={"src": "words.>", "dest": "up.words.>"})
        await w.until_counted(1)
        await w.until_gone(w.agent, "ECHO")
        counted = w.refused[RefusalKind.STREAM]
        await w.create(name="X", mirror={"name": "ROLLUPS", "external": {"api": "$JS.hub.API", "deliver": "words"}})
        await w.until_counted(counted + 1)
        await w.until_gone(w.agent, "X")


async def test_a_store_of_records_that_was_changed_is_counted_once_and_stays(tmp_path: Path) -> None:
    async with watched(tmp_path) as w:
        await w.create(name=STORE, subjects=subjects.object_subjects(BUCKET), republish={"src": ">", "dest": "words.>"})
        await w.until_counted(1)
        await w.watch.look()
        await w.watch.look()
        assert w.refused == {RefusalKind.STREAM: 1}
        assert await w.agent.client.jetstream().stream_info(STORE)


async def test_a_mirror_that_is_none_is_counted_and_deleted(tmp_path: Path) -> None:
    async with watched(tmp_path) as w:
        await api_request(w.border.client, MIRROR.delete_subject)
        body = {"name": MIRROR.name, "subjects": [subjects.ping(REGION, "in-south-1")]}
        await api_request(w.border.client, MIRROR.create_subject, body)
        await w.until_counted(1)
        await w.until_gone(w.border, MIRROR.name)


async def test_a_change_of_limits_makes_no_alarm_and_a_full_mirror_is_made_anew(tmp_path: Path) -> None:
    async with watched(tmp_path) as w:
        tended = Mirrors(REGION, w.border, RegionLock(w.agent, "in-south-1", replicas=1), replicas=1)
        older = {**MIRROR.request(), "max_bytes": 1024 * 1024}
        await api_request(w.border.client, MIRROR.update_subject, older)
        assert await tended._tend(MIRROR)
        info = await w.border.client.jetstream().stream_info(MIRROR.name)
        assert info.config.max_bytes == MIRROR.limits.max_bytes
        created = (await api_request(w.border.client, MIRROR.info_subject))["created"]
        assert await tended._tend(MIRROR)
        assert (await api_request(w.border.client, MIRROR.info_subject))["created"] == created
        assert not MIRROR.is_nearly_full(MIRROR.limits.max_bytes // 2)
        assert MIRROR.is_nearly_full(MIRROR.limits.max_bytes)
        assert w.refused == {}


@pytest.mark.parametrize(
    "change",
    [
        {"name": "OBJ_records-in-south-1_x_acme"},
        {"name": "OBJ_records-"},
        {"name": "words"},
        {"subjects": ["words.>"]},
        {"subjects": None},
        {"republish": {"src": ">", "dest": "words.>"}},
        {"sources": [{"name": "CALLS"}]},
        {"mirror": {"name": "CALLS"}},
        {"subject_transform": {"src": ">", "dest": "words.>"}},
    ],
)
def test_a_changed_stream_is_none_of_ours(change: dict[str, object]) -> None:
    config: dict[str, object] = {"name": STORE, "subjects": subjects.object_subjects(BUCKET)}
    assert is_in_region(config)
    assert not is_in_region(config | change)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "CONFIG_eu-central"},
        {"subjects": ["up.>"]},
        {"mirror": None},
        {"sources": [{"name": "CALLS"}]},
        {"republish": {"src": ">", "dest": "up.>"}},
        {"mirror": {"name": MIRROR.name, "external": {"api": "$JS.hub.API", "deliver": ""}}},
        {"mirror": {**json.loads(json.dumps(MIRROR.request()["mirror"])), "filter_subject": "words"}},
    ],
)
def test_a_changed_mirror_is_none(change: dict[str, object]) -> None:
    assert is_mirror(MIRROR.request(), MIRROR)
    assert not is_mirror(MIRROR.request() | change, MIRROR)
