"""What arrives in an object store is seen, and what deletion leaves there is swept up."""

from nats.aio.client import Client
from nats.js.api import ObjectMeta

from contract.subjects import object_stream
from edge.replication.feed import ReplicaFeed
from tests.edge.replication.conftest import until

BUCKET = "records-node-1_r_acme"
STAMP = "2026-11-23T08:20:46.512345678Z"


async def subjects(client: Client) -> int:
    """How many objects the stream knows of, living and deleted."""
    info = await client.jetstream().stream_info(object_stream(BUCKET), subjects_filter=f"$O.{BUCKET}.M.>")
    return len(info.state.subjects or {})


async def test_markers_of_deleted_objects_are_swept_but_never_the_newest_message(client: Client) -> None:
    js = client.jetstream()
    bucket = await js.create_object_store(BUCKET)
    names = [f"ltx/0/{number:016x}-{number:016x}.ltx" for number in range(1, 6)]
    for name in names:
        await bucket.put(name, b"content", meta=ObjectMeta(headers={"Litestream-Timestamp": [STAMP]}))
    for name in names[:3]:
        await bucket.delete(name)
    feed = ReplicaFeed(js=js, bucket=BUCKET)
    await feed.open()
    await until(lambda: feed.uploads == 2)
    assert await feed.sweep() == 0  # the markers are the newest: a listing may wait for them
    await bucket.put("ltx/1/0000000000000001-0000000000000005.ltx", b"content")
    await until(lambda: feed.uploads == 3)
    assert await subjects(client) == 6
    assert await feed.sweep() == 3
    assert await subjects(client) == 3
    assert await feed.sweep() == 0
    await feed.close()


async def test_an_object_that_lives_again_is_never_swept(client: Client) -> None:
    js = client.jetstream()
    bucket = await js.create_object_store(BUCKET)
    name = "ltx/0/0000000000000001-0000000000000001.ltx"
    await bucket.put(name, b"content")
    feed = ReplicaFeed(js=js, bucket=BUCKET)
    await feed.open()
    await bucket.delete(name)
    await bucket.put(name, b"again")
    await bucket.put("ltx/1/0000000000000001-0000000000000005.ltx", b"content")
    await until(lambda: feed.uploads == 3)
    assert await feed.sweep() == 0
    assert (await bucket.get(name)).data == b"again"
    await feed.close()


async def test_only_the_newest_level_tells_how_far_the_replica_reaches(client: Client) -> None:
    js = client.jetstream()
    bucket = await js.create_object_store(BUCKET)
    feed = ReplicaFeed(js=js, bucket=BUCKET)
    await feed.open()
    meta = ObjectMeta(headers={"Litestream-Timestamp": [STAMP]})
    await bucket.put("ltx/9/0000000000000001-0000000000000001.ltx", b"content", meta=meta)
    await until(lambda: feed.uploads == 1)
    assert feed.through == 0.0
    await bucket.put("ltx/0/0000000000000001-0000000000000001.ltx", b"content", meta=meta)
    await until(lambda: feed.uploads == 2)
    assert round(feed.through, 3) == 1795422046.512
    assert feed.upload_bytes == 14
    await feed.close()
