"""Personal content is sealed with the data subject's key; destroying the key makes it unreadable."""

import asyncio
import contextlib
from pathlib import Path

import apsw
import pytest

from edge.records.database import DatabaseSettings, database_path, key_database_path, load_migrations, migrate
from edge.records.errors import MasterKeyError
from edge.records.keyring import open_keyring
from edge.records.master_key import MasterKeys, ensure_master_key
from edge.records.model import ContentState
from edge.records.presence import RunId
from edge.records.sealing import SealBrokenError, seal, unseal
from edge.records.store import CallReader, CallStore, StoreSettings
from edge.records.subjects import SubjectId
from edge.records.tenant import TenantRecords
from tests.edge.records.examples import ANNA, BERT, a_call, a_transfer, a_turn

DATABASE = DatabaseSettings()
KEY = bytes(range(32))


def everything_under(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def destroy(directory: Path, subject: SubjectId) -> int:
    with contextlib.closing(
        TenantRecords.open(directory, "acme", DATABASE, actor="user:test", run=RunId("test"))
    ) as records:
        destroyed = records.destroy_key(subject)
    assert destroyed.is_overwritten
    return len(destroyed.key_ids)


def test_a_sealed_text_opens_only_with_its_key_and_at_its_place() -> None:
    sealed = seal(KEY, b"words", b"here")
    assert unseal(KEY, sealed, b"here") == b"words"
    assert sealed != seal(KEY, b"words", b"here")
    broken = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for key, text, bound in (
        (bytes(32), sealed, b"here"),
        (KEY, sealed, b"there"),
        (KEY, broken, b"here"),
        (KEY, b"", b""),
    ):
        with pytest.raises(SealBrokenError):
            unseal(key, text, bound)


async def test_no_word_of_a_call_is_in_any_file(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        for record in (a_call(), a_turn(), a_transfer(), a_call(ended=True)):
            await store.save(record)
        content = everything_under(tmp_path)
    assert b"pharmacy" in content
    for word in (b"Anna", b"Marlowe", b"Thank you", b"jekyll"):
        assert word not in content
    reader = CallReader(tmp_path, "acme", DATABASE)
    assert reader.turns("c1") == (a_turn(),)
    assert reader.transfers("c1") == (a_transfer(),)


async def test_content_of_a_destroyed_key_reads_as_erased_and_others_stay(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        for record in (
            a_call(),
            a_turn(),
            a_transfer(),
            a_call("c2", subject=BERT),
            a_turn(call_id="c2", subject=BERT),
        ):
            await store.save(record)
    assert destroy(tmp_path, ANNA) == 1
    assert destroy(tmp_path, ANNA) == 0
    reader = CallReader(tmp_path, "acme", DATABASE)
    (turn,) = reader.turns("c1")
    assert (turn.caller_text, turn.agent_text, turn.content_state) == ("", "", ContentState.ERASED)
    assert turn.intent == "introduce"
    assert reader.transfers("c1")[0].content_state is ContentState.ERASED
    assert reader.turns("c2")[0].content_state is ContentState.READABLE


async def test_a_destroyed_key_is_overwritten_in_its_file(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        await store.save(a_call())
        await store.save(a_turn())
    path = key_database_path(tmp_path, "acme", DATABASE)
    with contextlib.closing(apsw.Connection(str(path))) as keys:
        wrapped = keys.execute("SELECT wrapped FROM subject_keys").get
    assert isinstance(wrapped, bytes)
    assert wrapped in path.read_bytes()
    destroy(tmp_path, ANNA)
    assert wrapped not in everything_under(tmp_path)


async def test_a_running_worker_stops_using_a_destroyed_key(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        await store.save(a_call())
        await store.save(a_turn(1))
        await asyncio.to_thread(destroy, tmp_path, ANNA)
        await store.save(a_turn(2))
    states = [turn.content_state for turn in CallReader(tmp_path, "acme", DATABASE).turns("c1")]
    assert states == [ContentState.ERASED, ContentState.READABLE]


async def test_without_the_master_key_content_reads_as_sealed(tmp_path: Path) -> None:
    key_file = tmp_path / "secret" / "master"
    ensure_master_key(key_file)
    settings = DatabaseSettings(master_key_file=key_file)
    async with CallStore(tmp_path / "records", StoreSettings(database=settings)) as store:
        await store.save(a_call())
        await store.save(a_turn())
    for other in (DatabaseSettings(), DatabaseSettings(master_key_file=tmp_path / "none")):
        (turn,) = CallReader(tmp_path / "records", "acme", other).turns("c1")
        assert turn.content_state is ContentState.SEALED
    assert CallReader(tmp_path / "records", "acme", settings).turns("c1") == (a_turn(),)


async def test_content_that_was_changed_or_moved_reads_as_damaged(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        for record in (a_call(), a_turn(1), a_turn(2, caller_text="no")):
            await store.save(record)
    with contextlib.closing(apsw.Connection(str(database_path(tmp_path, "acme")))) as connection:
        connection.execute(
            "UPDATE turn_contents SET caller_text = (SELECT caller_text FROM turn_contents WHERE seq = 2) WHERE seq = 1"
        )
    states = [turn.content_state for turn in CallReader(tmp_path, "acme", DATABASE).turns("c1")]
    assert states == [ContentState.DAMAGED, ContentState.READABLE]


async def test_a_new_master_key_wraps_and_the_old_one_still_unwraps(tmp_path: Path) -> None:
    key_file = tmp_path / "master"
    ensure_master_key(key_file)
    settings = DatabaseSettings(master_key_file=key_file)
    for seq in (1, 2):
        async with CallStore(tmp_path / "records", StoreSettings(database=settings)) as store:
            await store.save(a_call())
            await store.save(a_turn(seq))
        key_file.write_text("00" * 32 + "  # new\n" + key_file.read_text())
    assert len(CallReader(tmp_path / "records", "acme", settings).turns("c1")) == 2
    assert {turn.content_state for turn in CallReader(tmp_path / "records", "acme", settings).turns("c1")} == {
        ContentState.READABLE
    }


async def test_a_lost_master_key_does_not_end_recording(tmp_path: Path) -> None:
    key_file = tmp_path / "master"
    settings = DatabaseSettings(master_key_file=key_file)
    for seq in (1, 2):
        key_file.unlink(missing_ok=True)
        ensure_master_key(key_file)
        async with CallStore(tmp_path / "records", StoreSettings(database=settings)) as store:
            await store.save(a_call())
            await store.save(a_turn(seq))
    states = [turn.content_state for turn in CallReader(tmp_path / "records", "acme", settings).turns("c1")]
    assert states == [ContentState.SEALED, ContentState.READABLE]


@pytest.mark.parametrize("content", [None, "", "zz", "00" * 31])
def test_a_file_that_holds_no_master_key_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "master"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    with pytest.raises(MasterKeyError, match="master"):
        MasterKeys.load(path)


def test_a_master_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master"
    ensure_master_key(path)
    path.chmod(0o640)
    with pytest.raises(MasterKeyError, match="others"):
        MasterKeys.load(path)


def test_a_master_key_that_systemd_hands_over_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its access list shows as the group's right to read; everybody's is refused there, too."""
    path = tmp_path / "master"
    ensure_master_key(path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    path.chmod(0o440)
    MasterKeys.load(path)
    path.chmod(0o444)
    with pytest.raises(MasterKeyError, match="others"):
        MasterKeys.load(path)


def test_two_workers_make_one_key_for_a_subject(tmp_path: Path) -> None:
    with (
        contextlib.closing(open_keyring(tmp_path, "acme", DATABASE)) as one,
        contextlib.closing(open_keyring(tmp_path, "acme", DATABASE)) as two,
    ):
        assert one.one(ANNA) == two.one(ANNA)
        assert one.one(ANNA) != one.one(BERT)


def test_plain_rows_of_an_older_release_are_sealed(tmp_path: Path) -> None:
    path = database_path(tmp_path, "acme")
    with contextlib.closing(apsw.Connection(str(path))) as old:
        old.execute("PRAGMA journal_mode = WAL")
        migrate(old, load_migrations()[:2])
        old.execute(
            "INSERT INTO calls (call_id, tenant, agent, agent_version, subject_id, called_number, transport,"
            " started_at) VALUES ('c1', 'acme', 'a', '1', ?, '+49', 'sip', 0)",
            (ANNA,),
        )
        old.execute(
            "INSERT INTO turns (call_id, seq, began_at, citations, was_interrupted) VALUES ('c1', 1, 0, '[]', 0)"
        )
        old.execute("INSERT INTO turn_contents VALUES ('c1', 1, ?, 'I am Anna', 'Hello Anna')", (ANNA,))
        old.execute("INSERT INTO transfers VALUES ('c1', 1, 'sip:dr.jekyll@desk', 'asked', 0, 1, 'busy')")
    TenantRecords.open(tmp_path, "acme", DATABASE, actor="test", run=RunId("test")).close()
    reader = CallReader(tmp_path, "acme", DATABASE)
    assert [(turn.caller_text, turn.agent_text) for turn in reader.turns("c1")] == [("I am Anna", "Hello Anna")]
    assert [transfer.destination for transfer in reader.transfers("c1")] == ["sip:dr.jekyll@desk"]
    content = everything_under(tmp_path)
    assert b"Anna" not in content
    assert b"jekyll" not in content
