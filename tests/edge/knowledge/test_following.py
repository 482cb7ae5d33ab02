"""Call workers see what is applied, at once and whole, and never an item outside its dates."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge.call.ports import Purpose
from edge.knowledge.base import KnowledgeBase, open_knowledge, open_replica
from edge.knowledge.errors import KnowledgeDamagedError, KnowledgeEmbeddingError
from edge.knowledge.replica import KnowledgeReplica, link_path
from tests.edge.knowledge.snapshots import TENANT, an_item, letter_vectors, make_delta, make_snapshot

TODAY = date(2026, 11, 24)
OVER, FUTURE = date(2026, 11, 23), date(2026, 11, 25)
WITHIN_S = 10.0
CALLED = {"products": "the product"}


class Letters:
    """The embedder of `letter_vectors`."""

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> NDArray[np.float32]:
        return letter_vectors(texts)


async def opened(folder: Path, *, mentions: dict[str, str] | None = None) -> KnowledgeBase:
    return await open_replica(link_path(folder, TENANT), ["products"], mentions or {}, Letters(), tenant=TENANT)


def found(base: KnowledgeBase, question: str) -> list[str]:
    return [match.key for match in base.search(question, letter_vectors([question])[0], TODAY)]


def price_of(base: KnowledgeBase, item_id: str) -> str | None:
    item = base.item(item_id, TODAY)
    return item.attributes["price"] if item is not None else None


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what another thread or process does."""
    async with asyncio.timeout(WITHIN_S):
        while not is_so():
            await asyncio.sleep(0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "knowledge"


@pytest.fixture
def replica(tmp_path: Path, folder: Path) -> KnowledgeReplica:
    """Version 1: amber and birch."""
    replica = KnowledgeReplica(folder)
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item("amber"), an_item("birch")], version=1))
    return replica


async def test_a_delta_is_seen_at_the_next_question(replica: KnowledgeReplica, folder: Path) -> None:
    """By id, by question and by name; what is removed is gone everywhere."""
    base = await opened(folder)
    named = await opened(folder, mentions=CALLED)
    assert price_of(base, "amber") == "5"
    replica.apply_delta(
        *make_delta([an_item("amber", version=2, price="6"), an_item("quartz")], ["birch"], version=2, items=2)
    )
    assert price_of(base, "amber") == "6"
    assert found(base, "quartz lamp")[0] == "quartz"
    assert "birch" not in found(base, "birch lamp")
    mention = named.mention("how much is the quartz lamp", "products", TODAY)
    assert mention is not None
    assert [item.id for item in mention.items] == ["quartz"]
    lost = named.mention("how much is the birch lamp", "products", TODAY)
    assert lost is None or [item.id for item in lost.items] != ["birch"]
    assert base.known_share("quartz") == 1.0
    assert base.version == named.version == 2
    base.close()
    named.close()


async def test_a_new_snapshot_is_opened_beside_and_swapped(
    replica: KnowledgeReplica, folder: Path, tmp_path: Path
) -> None:
    """Until it is ready, what was open answers."""
    base = await opened(folder)
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item("coral")], version=2))
    assert price_of(base, "amber") in {"5", None}
    await until(lambda: base.version == 2)
    assert price_of(base, "amber") is None
    assert found(base, "coral lamp") == ["coral"]
    replica.apply_delta(*make_delta([an_item("coral", version=2, price="7")], version=3, items=1))
    assert price_of(base, "coral") == "7"
    base.close()


async def test_a_swap_is_noticed_while_nobody_asks(replica: KnowledgeReplica, folder: Path, tmp_path: Path) -> None:
    """The watch opens it, so that the first question finds it."""
    base = await opened(folder)
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(base.watch())
        await asyncio.sleep(0.1)
        await asyncio.to_thread(replica.apply_snapshot, *make_snapshot(tmp_path, [an_item("coral")], version=2))
        follower = base._replica
        assert follower is not None
        await until(lambda: follower._opened is not None and follower._opened[1].version == 2)
        watch.cancel()
    await until(lambda: follower._opening is None or not follower._opening.is_alive())
    assert base.version == 2
    base.close()


async def test_files_serve_until_there_is_a_replica(folder: Path, tmp_path: Path) -> None:
    """A node that starts before its first snapshot."""
    base = await open_knowledge([an_item("amber", price="1")], {}, Letters(), tenant=TENANT, cache=None)
    base.follow(link_path(folder, TENANT), ["products"], {})
    assert price_of(base, "amber") == "1"
    replica = KnowledgeReplica(folder)
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item("amber", price="2")], version=1))
    await until(lambda: price_of(base, "amber") == "2")
    base.close()


async def test_many_changes_at_once_are_loaded_beside(
    replica: KnowledgeReplica, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call does not wait for them."""
    monkeypatch.setattr("edge.knowledge.view.MOST_CHANGED", 3)
    base = await opened(folder)
    replica.apply_delta(*make_delta([an_item(f"n{number}") for number in range(10)], version=2, items=12))
    await until(lambda: base.version == 2)
    assert found(base, "n7 lamp")[0].startswith("n")
    base.close()


async def test_items_outside_their_dates_are_never_returned(
    replica: KnowledgeReplica, folder: Path, tmp_path: Path
) -> None:
    """By search, name, id or list, also after a delta changed the dates, and although they fit best."""
    items = [
        an_item("expired", valid_until=OVER),
        an_item("future", valid_from=FUTURE),
        an_item("current", valid_from=TODAY, valid_until=TODAY),
    ]
    replica.apply_snapshot(*make_snapshot(tmp_path, items, version=2))
    base, named = await opened(folder), await opened(folder, mentions=CALLED)

    def assert_silent(*names: str) -> None:
        for name in names:
            assert name not in found(base, f"{name} lamp")
            assert base.item(name, TODAY) is None
            mention = named.mention(f"the {name} lamp", "products", TODAY)
            assert mention is None or name not in [item.id for item in mention.items]

    assert_silent("expired", "future")
    assert [item.id for item in base.items(TODAY)] == found(base, "current lamp") == ["current"]
    replica.apply_delta(*make_delta([an_item("current", valid_until=OVER), an_item("future")], version=3, items=3))
    assert_silent("expired", "current")
    assert [item.id for item in base.items(TODAY)] == found(base, "current lamp") == ["future"]
    base.close()
    named.close()


async def test_expired_items_do_not_crowd_out_valid_ones(folder: Path, tmp_path: Path) -> None:
    """A hundred expired offers of the same words, and the one that holds is found."""
    old = [an_item(f"offer{number}", valid_until=OVER) for number in range(100)]
    replica = KnowledgeReplica(folder)
    replica.apply_snapshot(*make_snapshot(tmp_path, [*old, an_item("offering")], version=1))
    base = await opened(folder)
    assert found(base, "offer1 lamp")[0] == "offering"
    base.close()


async def test_vectors_of_another_model_are_refused(replica: KnowledgeReplica, folder: Path) -> None:
    """They would be compared without sense."""

    class Backwards(Letters):
        async def embed(self, texts: Sequence[str], purpose: Purpose) -> NDArray[np.float32]:
            return letter_vectors(texts)[:, ::-1]

    with pytest.raises(KnowledgeEmbeddingError):
        await open_replica(link_path(folder, TENANT), ["products"], {}, Backwards(), tenant=TENANT)


def backwards(texts: Sequence[str]) -> NDArray[np.float32]:
    """Vectors of another model."""
    return letter_vectors(texts)[:, ::-1]


async def test_a_swap_to_vectors_of_another_model_is_not_followed(
    replica: KnowledgeReplica, folder: Path, tmp_path: Path
) -> None:
    """What was open answers on, until there are vectors of this node's model again."""
    base = await opened(folder)
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item("coral")], version=2, embed=backwards))
    follower = base._replica
    assert follower is not None
    await until(lambda: base.version > 0 and follower._unusable is not None)
    assert price_of(base, "amber") == "5"
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item("coral")], version=3))
    await until(lambda: base.version == 3)
    base.close()


async def test_files_serve_on_where_the_first_replica_is_of_another_model(folder: Path, tmp_path: Path) -> None:
    base = await open_knowledge([an_item("amber", price="1")], {}, Letters(), tenant=TENANT, cache=None)
    base.follow(link_path(folder, TENANT), ["products"], {})
    replica = KnowledgeReplica(folder)
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item("amber", price="2")], version=1, embed=backwards))
    follower = base._replica
    assert follower is not None
    await until(lambda: base.version == 0 and follower._unusable is not None)
    assert price_of(base, "amber") == "1"
    base.close()


async def test_what_could_not_be_opened_once_is_opened_later(
    replica: KnowledgeReplica, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.knowledge.base._AGAIN_AFTER_S", 0.2)
    base = await opened(folder)
    replica.apply_snapshot(*make_snapshot(tmp_path, [an_item("coral")], version=2))
    data = link_path(folder, TENANT).resolve()
    data.rename(tmp_path / "away")
    follower = base._replica
    assert follower is not None
    await until(lambda: base.version == 1 and follower._unusable is not None)
    (tmp_path / "away").rename(data)
    await until(lambda: base.version == 2)
    base.close()


async def test_a_damaged_replica_is_told(tmp_path: Path) -> None:
    """Not a crash."""
    link_path(tmp_path, TENANT).write_bytes(b"no database" * 1000)
    with pytest.raises(KnowledgeDamagedError):
        await opened(tmp_path)


READ_UNTIL = """
import asyncio, sys, time
from pathlib import Path
from tests.edge.knowledge.test_following import opened, price_of

async def main() -> None:
    base = await opened(Path(sys.argv[1]))
    print("open", flush=True)
    ends = time.monotonic() + 10
    while price_of(base, "amber") != "9" and time.monotonic() < ends:
        time.sleep(0.001)
    print(time.time(), base.version, flush=True)

asyncio.run(main())
"""


def test_another_process_sees_a_delta_in_milliseconds(replica: KnowledgeReplica, folder: Path) -> None:
    """As call workers do."""
    with subprocess.Popen(
        [sys.executable, "-c", READ_UNTIL, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        replica.apply_delta(*make_delta([an_item("amber", version=2, price="9")], version=2, items=2))
        applied = time.time()
        seen, version = process.stdout.readline().split()
        assert version == "2"
        assert float(seen) - applied < 1.0
        process.wait(WITHIN_S)


async def test_readers_never_see_half_of_a_version(folder: Path, tmp_path: Path) -> None:
    """While snapshots are swapped and deltas applied, the items of each look are of one version."""
    names = [f"n{number}" for number in range(20)]
    replica = KnowledgeReplica(folder)

    def items(version: int) -> list[object]:
        return [an_item(name, version=version, price=str(version)) for name in names]

    replica.apply_snapshot(*make_snapshot(tmp_path, items(1), version=1))  # type: ignore[arg-type]
    base = await opened(folder)
    stop = threading.Event()
    errors: list[BaseException] = []

    def apply() -> None:
        try:
            for version in range(2, 30):
                if version % 4 == 0:
                    replica.apply_snapshot(*make_snapshot(tmp_path, items(version), version=version))  # type: ignore[arg-type]
                else:
                    replica.apply_delta(*make_delta(items(version), version=version, items=20))  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)
        finally:
            stop.set()

    thread = threading.Thread(target=apply)
    thread.start()
    newest = 0
    while not stop.is_set():
        listed = {item.attributes["price"] for item in base.items(TODAY)}
        assert len(listed) == 1
        assert int(next(iter(listed))) >= newest
        newest = int(next(iter(listed)))
        assert len(found(base, "n1 lamp")) == 20
        await asyncio.sleep(0)
    thread.join(WITHIN_S)
    assert errors == []
    await until(lambda: base.version == 29)
    base.close()
