"""A replica takes whole snapshots and deltas that follow, refuses everything else, and keeps its last good version."""

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.downlink_pb2 import DeltaContent, KnowledgeManifest
from contract.uplink_pb2 import Refusal
from edge.knowledge import database
from edge.knowledge.errors import KnowledgeDamagedError, KnowledgeRefusedError
from edge.knowledge.replica import KnowledgeReplica, link_path, open_reader
from tests.edge.knowledge.snapshots import (
    CREATED_AT_MS,
    TENANT,
    an_item,
    describe_delta,
    make_delta,
    make_snapshot,
    message_of,
    pack,
)

NAMES = ("amber", "birch", "coral", "delta", "ember")


@pytest.fixture
def replica(tmp_path: Path) -> KnowledgeReplica:
    """A replica with five items at version 3."""
    replica = KnowledgeReplica(tmp_path / "knowledge")
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item(name) for name in NAMES], version=3))
    return replica


def items_in(replica: KnowledgeReplica, directory: Path) -> dict[str, int]:
    """The ids and versions of all items."""
    connection = open_reader(link_path(directory, TENANT))
    found = {message.id: message.version for message in database.stored_items(connection)}
    connection.close()
    return found


def refusal_of(act: Callable[[], None]) -> int:
    with pytest.raises(KnowledgeRefusedError) as raised:
        act()
    return raised.value.refusal


def test_a_snapshot_is_applied_and_tells_what_it_is(replica: KnowledgeReplica) -> None:
    """Version, age and number of items are readable; another tenant has none."""
    running = replica.version(TENANT)
    assert running is not None
    assert (running.version, running.items, running.created_at_ms) == (3, 5, CREATED_AT_MS + 3)
    assert running.embedding == "letters"
    assert len(running.manifest_sha256) == 32
    assert replica.version("other") is None
    assert replica.tenants() == (TENANT,)


def test_a_delta_changes_adds_and_removes(replica: KnowledgeReplica, tmp_path: Path) -> None:
    """One transaction, and the version is the delta's."""
    replica.apply_delta(*make_delta([an_item("amber", version=2), an_item("fern")], ["birch"], version=4, items=5))
    assert items_in(replica, tmp_path / "knowledge") == {"amber": 2, "coral": 1, "delta": 1, "ember": 1, "fern": 1}
    running = replica.version(TENANT)
    assert running is not None
    assert running.version == 4


def test_what_is_derived_follows_the_items(replica: KnowledgeReplica, tmp_path: Path) -> None:
    """After deltas, the vocabulary, stems and names are those of a database made anew from the same items."""
    replica.apply_delta(*make_delta([an_item("amber", version=2), an_item("fern")], ["birch"], version=4, items=5))
    replica.apply_delta(*make_delta([an_item("birch")], ["fern", "ember"], version=5, items=4))
    changed = open_reader(link_path(tmp_path / "knowledge", TENANT))
    fresh = apsw.Connection(":memory:")
    database.create(fresh)
    writer = database.Writer(fresh, 1)
    for message in database.stored_items(changed):
        writer.put(message)
    writer.flush()
    for query in (
        "SELECT stem, scope, texts FROM vocabulary WHERE texts ORDER BY 1, 2",
        "SELECT letters, sounds, rough FROM names ORDER BY 1",
        "SELECT texts.stems FROM texts JOIN search ON search.rowid = texts.row WHERE search MATCH '1_lamp' ORDER BY 1",
    ):
        assert changed.execute(query).fetchall() == fresh.execute(query).fetchall()
    changed.close()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_replayed_and_downgraded_versions_are_refused(replica: KnowledgeReplica, tmp_path: Path, version: int) -> None:
    """Lower or equal, snapshot or delta."""
    snapshot = make_snapshot(tmp_path, [an_item("old")], version=version)
    assert refusal_of(lambda: replica.apply_snapshot(*snapshot)) == Refusal.REFUSAL_REPLAYED
    delta = make_delta([an_item("old")], version=version, items=6)
    assert refusal_of(lambda: replica.apply_delta(*delta)) == Refusal.REFUSAL_REPLAYED
    assert len(items_in(replica, tmp_path / "knowledge")) == 5


def test_a_gap_is_refused(replica: KnowledgeReplica) -> None:
    """A delta follows exactly the version that runs; without one there is nothing to follow."""
    assert refusal_of(lambda: replica.apply_delta(*make_delta([], version=5, items=5))) == Refusal.REFUSAL_GAP
    delta = make_delta([an_item("x")], version=2, items=1, tenant="other")
    assert refusal_of(lambda: replica.apply_delta(*delta)) == Refusal.REFUSAL_GAP


@pytest.mark.parametrize(
    "delta",
    [
        pytest.param(make_delta([], ["unknown"], version=4, items=5), id="removes what is not there"),
        pytest.param(make_delta([an_item("fern")], version=4, items=5), id="another number of items"),
        pytest.param(describe_delta(b"no zstd at all", version=4, items=5), id="not zstd"),
        pytest.param(describe_delta(zstandard.compress(b"\xff\xff"), version=4, items=5), id="not protobuf"),
        pytest.param(
            describe_delta(
                zstandard.compress(DeltaContent(upserts=[message_of(an_item("a"))] * 1).SerializeToString()[:-3]),
                version=4,
                items=6,
            ),
            id="half",
        ),
    ],
)
def test_a_malformed_delta_changes_nothing(
    replica: KnowledgeReplica, tmp_path: Path, delta: tuple[KnowledgeManifest, bytes]
) -> None:
    """Not even the part that was good."""
    assert refusal_of(lambda: replica.apply_delta(*delta)) == Refusal.REFUSAL_MALFORMED
    assert set(items_in(replica, tmp_path / "knowledge")) == set(NAMES)


@pytest.mark.parametrize("broken", ["vector", "scale", "title", "date", "short vector"])
def test_an_item_that_is_none_is_refused(replica: KnowledgeReplica, tmp_path: Path, broken: str) -> None:
    """Vectors of another length, scales beyond 1, missing words, dates that are none."""
    message = message_of(an_item("fern"))
    if broken == "vector":
        message.texts[0].vector = b""
    elif broken == "short vector":
        message.texts[0].vector = message.texts[0].vector[:-1]
    elif broken == "scale":
        message.texts[0].scale = float("nan")
    elif broken == "title":
        message.title = ""
    else:
        message.valid_until = "soon"
    good = message_of(an_item("amber", version=9))
    packed = zstandard.compress(DeltaContent(upserts=[good, message]).SerializeToString())
    delta = describe_delta(packed, version=4, items=6)
    assert refusal_of(lambda: replica.apply_delta(*delta)) == Refusal.REFUSAL_MALFORMED
    assert items_in(replica, tmp_path / "knowledge")["amber"] == 1


@given(cut=st.integers(min_value=0, max_value=10_000), flip=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_torn_and_tampered_content_is_refused(
    replica: KnowledgeReplica, tmp_path: Path, cut: int, *, flip: bool
) -> None:
    """Cut anywhere or with a bit flipped anywhere, snapshot and delta are refused and the last good one stays."""
    manifest, file = make_snapshot(tmp_path, [an_item("new")], version=4)
    file.write_bytes(_spoilt(file.read_bytes(), cut, flip=flip))
    wanted = Refusal.REFUSAL_DIGEST if flip else Refusal.REFUSAL_INCOMPLETE
    assert refusal_of(lambda: replica.apply_snapshot(manifest, file)) == wanted
    delta, content = make_delta([an_item("new")], version=4, items=6)
    spoilt = _spoilt(content, cut, flip=flip)
    assert refusal_of(lambda: replica.apply_delta(delta, spoilt)) == Refusal.REFUSAL_DIGEST
    assert set(items_in(replica, tmp_path / "knowledge")) == set(NAMES)


def _spoilt(content: bytes, cut: int, *, flip: bool) -> bytes:
    place = cut % len(content)
    if not flip:
        return content[:place]
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@given(cut=st.integers(min_value=0, max_value=10_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_a_truncated_file_inside_a_signed_snapshot_is_refused(
    replica: KnowledgeReplica, tmp_path: Path, cut: int
) -> None:
    """Even a hub that signs half a file does not bring a node down."""
    manifest, file = make_snapshot(tmp_path, [an_item("new")], version=4)
    plain = tmp_path / f"{TENANT}-4.sqlite"
    whole = plain.read_bytes()
    plain.write_bytes(whole[: 1 + cut % (len(whole) - 1)])
    pack(plain, file, manifest)
    assert refusal_of(lambda: replica.apply_snapshot(manifest, file)) == Refusal.REFUSAL_MALFORMED
    assert set(items_in(replica, tmp_path / "knowledge")) == set(NAMES)


def test_a_snapshot_of_another_tenant_is_refused(replica: KnowledgeReplica, tmp_path: Path) -> None:
    """What the file says must be what the manifest says."""
    snapshot = make_snapshot(tmp_path, [an_item("new")], version=4, inside="other")
    assert refusal_of(lambda: replica.apply_snapshot(*snapshot)) == Refusal.REFUSAL_MALFORMED
    for tenant in ("", "../escape", "Shop"):
        manifest, file = make_snapshot(tmp_path, [an_item("new")], version=4)
        manifest.tenant = tenant
        assert refusal_of(lambda m=manifest, f=file: replica.apply_snapshot(m, f)) == Refusal.REFUSAL_MALFORMED  # type: ignore[misc]


def test_a_larger_file_than_announced_is_not_unpacked(replica: KnowledgeReplica, tmp_path: Path) -> None:
    """A bomb ends at the announced size."""
    manifest, file = make_snapshot(tmp_path, [an_item("new")], version=4)
    manifest.snapshot.file_bytes -= 1
    assert refusal_of(lambda: replica.apply_snapshot(manifest, file)) == Refusal.REFUSAL_DIGEST
    assert set(items_in(replica, tmp_path / "knowledge")) == set(NAMES)


def test_the_folder_may_be_reached_by_a_link(replica: KnowledgeReplica, tmp_path: Path) -> None:
    """As where a state folder lies on another disk."""
    (tmp_path / "elsewhere").symlink_to(tmp_path / "knowledge")
    linked = KnowledgeReplica(tmp_path / "elsewhere")
    linked.apply_snapshot(*make_snapshot(tmp_path, [an_item("new")], version=4))
    linked.apply_delta(*make_delta([an_item("newer")], version=5, items=2))
    linked.apply_snapshot(*make_snapshot(tmp_path, [an_item("newest")], version=6))
    assert linked.examine() == ()
    assert set(items_in(replica, tmp_path / "knowledge")) == {"newest"}


def test_nothing_is_left_over(replica: KnowledgeReplica, tmp_path: Path) -> None:
    """Old and half-made files go."""
    folder = tmp_path / "knowledge"
    (folder / f"{TENANT}.9-dead.data").write_bytes(b"left by a crash")
    (folder / f"{TENANT}.9-dead.unpacked").write_bytes(b"left by a crash")
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item("new")], version=4))
    assert sorted(path.suffix for path in folder.iterdir()) == [".data", ".db", ".newest"]


def test_a_damaged_replica_is_set_aside_and_can_be_fetched_again(replica: KnowledgeReplica, tmp_path: Path) -> None:
    """Damage is noticed at the start; the same version comes again, an older one does not."""
    data = Path(os.path.realpath(link_path(tmp_path / "knowledge", TENANT)))
    content = bytearray(data.read_bytes())
    place = content.find(b"The coral lamp gives light.")
    content[place] ^= 1
    data.write_bytes(content)
    (error,) = replica.examine()
    assert isinstance(error, KnowledgeDamagedError)
    assert error.tenant == TENANT
    assert replica.version(TENANT) is None
    assert (tmp_path / "knowledge" / f"{TENANT}.damaged").exists()
    older = make_snapshot(tmp_path, [an_item("old")], version=2)
    assert refusal_of(lambda: replica.apply_snapshot(*older)) == Refusal.REFUSAL_REPLAYED
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item(name) for name in NAMES], version=3))
    assert replica.examine() == ()


def test_what_was_set_aside_comes_back_by_an_older_snapshot_and_its_deltas(
    replica: KnowledgeReplica, tmp_path: Path
) -> None:
    """Only if these lead to where it was; a crash on the way leaves the way open."""
    delta = make_delta([an_item("fern")], version=4, items=6)
    replica.apply_delta(*delta)
    Path(os.path.realpath(link_path(tmp_path / "knowledge", TENANT))).write_bytes(b"x" * 8192)
    assert len(replica.examine()) == 1
    snapshot = make_snapshot(tmp_path, [an_item(name) for name in NAMES], version=3)
    assert refusal_of(lambda: replica.apply_snapshot(*snapshot)) == Refusal.REFUSAL_REPLAYED
    replica.apply_snapshot(*snapshot, towards=4)
    replica = KnowledgeReplica(tmp_path / "knowledge")
    replica.apply_delta(*delta)
    assert len(items_in(replica, tmp_path / "knowledge")) == 6
    older = make_snapshot(tmp_path, [an_item("old")], version=2)
    assert refusal_of(lambda: replica.apply_snapshot(*older, towards=9)) == Refusal.REFUSAL_REPLAYED


def test_a_destroyed_file_is_noticed_when_it_is_read(replica: KnowledgeReplica, tmp_path: Path) -> None:
    """A file that is no database at all."""
    Path(os.path.realpath(link_path(tmp_path / "knowledge", TENANT))).write_bytes(b"x" * 8192)
    with pytest.raises(KnowledgeDamagedError):
        replica.version(TENANT)
    assert replica.version(TENANT) is None


def test_a_file_of_an_earlier_release_is_derived_anew(replica: KnowledgeReplica, tmp_path: Path) -> None:
    """An upgraded node needs no hub for it."""
    path = link_path(tmp_path / "knowledge", TENANT)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE knowledge SET index_format = 0")
    connection.execute("DELETE FROM vocabulary")
    connection.close()
    before = replica.version(TENANT)
    assert replica.examine() == ()
    assert replica.version(TENANT) == before
    reader = open_reader(path)
    assert reader.execute("SELECT count(*) > 0, min(texts) FROM vocabulary").fetchone() == (1, 1)
    reader.close()
    replica.apply_delta(*make_delta([an_item("fern")], version=4, items=6))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_leaves_the_last_good_version(tmp_path: Path) -> None:
    """NO_SPACE, for a snapshot and for a delta; with room again, both work."""
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=False).returncode:
        pytest.skip("cannot mount here")
    try:
        replica = KnowledgeReplica(folder / "knowledge")
        replica.apply_snapshot(*make_snapshot(tmp_path, [an_item(name) for name in NAMES], version=1))
        stuffing = folder / "stuffing"
        stuffing.write_bytes(b"x" * (os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - 50_000))
        many = [an_item(f"{name}{number}") for name in NAMES for number in range(200)]
        snapshot = make_snapshot(tmp_path, many, version=2)
        assert refusal_of(lambda: replica.apply_snapshot(*snapshot)) == Refusal.REFUSAL_NO_SPACE
        delta = make_delta(many, version=2, items=1005)
        assert refusal_of(lambda: replica.apply_delta(*delta)) == Refusal.REFUSAL_NO_SPACE
        assert set(items_in(replica, folder / "knowledge")) == set(NAMES)
        stuffing.unlink()
        replica.apply_delta(*make_delta([an_item("fern")], version=2, items=6))
        assert replica.examine() == ()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_what_cannot_be_read_on_a_full_disk_is_not_damaged(small_disk: Path, tmp_path: Path) -> None:
    """A reader needs room for its shared memory; without it the file stays and is read again later."""
    folder = small_disk / "knowledge"
    replica = KnowledgeReplica(folder)
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item(name) for name in NAMES], version=1))
    for journal in (*folder.glob("*-shm"), *folder.glob("*-wal")):
        journal.unlink()
    with (small_disk / "other").open("wb", buffering=0) as other, contextlib.suppress(OSError):
        while other.write(bytes(1024)):
            pass
    assert replica.examine() == ()
    with pytest.raises(KnowledgeRefusedError) as raised:
        replica.version(TENANT)
    assert raised.value.refusal == Refusal.REFUSAL_NO_SPACE
    delta = make_delta([an_item("fern")], version=2, items=6)
    assert refusal_of(lambda: replica.apply_delta(*delta)) == Refusal.REFUSAL_NO_SPACE
    (small_disk / "other").unlink()
    assert replica.examine() == ()
    replica.apply_delta(*delta)
    assert set(items_in(replica, folder)) == {*NAMES, "fern"}


APPLY_FOREVER = """
import itertools, sys
from pathlib import Path
from edge.knowledge.replica import KnowledgeReplica
from tests.edge.knowledge.snapshots import TENANT, an_item, make_delta, make_snapshot

root = Path(sys.argv[1])
replica = KnowledgeReplica(root / "knowledge")
running = replica.version(TENANT)
version = running.version if running is not None else 0
for version in itertools.count(version + 1):
    items = [an_item(f"n{number}", version=version) for number in range(40)]
    if version == 1 or version % 5 == 0:
        replica.apply_snapshot(*make_snapshot(root, items, version=version))
    else:
        replica.apply_delta(*make_delta(items, version=version, items=40))
    print(version, file=sys.stderr, flush=True)
"""


def test_kill_9_in_a_loop_leaves_a_good_replica(tmp_path: Path) -> None:
    """Whatever moment it dies in, all items are of the version that the replica says, and it goes on from there."""
    moments = random.Random(3)  # noqa: S311 - reproducible moments
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", APPLY_FOREVER, str(tmp_path)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            last = 0
            for _ in range(moments.randint(3, 9)):
                last = int(process.stderr.readline())
            process.send_signal(signal.SIGKILL)
            process.wait(10)
        replica = KnowledgeReplica(tmp_path / "knowledge")
        assert replica.examine() == ()
        running = replica.version(TENANT)
        assert running is not None
        assert running.version >= last
        assert set(items_in(replica, tmp_path / "knowledge").values()) == {running.version}
