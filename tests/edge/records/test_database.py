"""The schema: every older one becomes exactly the newest, and litestream's rules hold."""

from pathlib import Path

import apsw
import pytest

from edge.records import database
from edge.records.contents import register_sealing
from edge.records.database import Cell, DatabaseSettings, Migration, load_migrations, migrate, open_database
from edge.records.errors import SchemaTooNewError
from edge.records.keyring import open_keyring

MIGRATIONS = load_migrations()
KEY_MIGRATIONS = load_migrations("key_migrations")


def connect(path: Path) -> apsw.Connection:
    """A bare connection that can seal, as migration 0003 wants."""
    connection = apsw.Connection(str(path))
    register_sealing(connection, "acme", open_keyring(path.parent, "acme", DatabaseSettings()))
    return connection


def schema_of(connection: apsw.Connection) -> list[tuple[Cell, ...]]:
    return list(connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"))


@pytest.mark.parametrize("version", range(len(MIGRATIONS) + 1))
def test_every_earlier_schema_becomes_the_fresh_one(tmp_path: Path, version: int) -> None:
    old, fresh = connect(tmp_path / "old"), connect(tmp_path / "fresh")
    if version:
        migrate(old, MIGRATIONS[:version])
    migrate(old, MIGRATIONS)
    migrate(fresh, MIGRATIONS)
    assert schema_of(old) == schema_of(fresh)
    assert old.execute("SELECT version, name FROM schema_versions ORDER BY version").fetchall() == [
        (step.version, step.name) for step in MIGRATIONS
    ]


def test_a_step_that_fails_leaves_the_schema_before_it(tmp_path: Path) -> None:
    connection = connect(tmp_path / "x")
    migrate(connection, MIGRATIONS)
    before = schema_of(connection)
    broken = Migration(
        version=len(MIGRATIONS) + 1, name="9999_break_all", sql="CREATE TABLE t (a); CREATE TABLE t (a);"
    )
    with pytest.raises(apsw.SQLError):
        migrate(connection, (*MIGRATIONS, broken))
    assert schema_of(connection) == before
    assert connection.in_transaction is False


def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    connection = connect(tmp_path / "x")
    newer = Migration(version=len(MIGRATIONS) + 1, name="9999_add_later", sql="CREATE TABLE later (a)")
    migrate(connection, (*MIGRATIONS, newer))
    with pytest.raises(SchemaTooNewError):
        migrate(connection, MIGRATIONS)


def write_pages(connection: apsw.Connection, pages: int) -> None:
    connection.execute("CREATE TABLE IF NOT EXISTS filling (content)")
    for _ in range(pages):
        connection.execute("INSERT INTO filling VALUES (zeroblob(4096))")


def wal_bytes(path: Path) -> int:
    return path.with_name(path.name + "-wal").stat().st_size


def test_without_litestream_we_keep_the_wal_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 20)
    path = tmp_path / "acme.sqlite3"
    connection = open_database(path, DatabaseSettings(), KEY_MIGRATIONS)
    write_pages(connection, 100)
    assert wal_bytes(path) < 50 * 4096


def test_a_database_with_a_litestream_is_never_checkpointed_by_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 20)
    monkeypatch.setattr(database, "ABANDONED_PAGES", 300)
    path = tmp_path / "acme.sqlite3"
    connection = open_database(path, DatabaseSettings(), KEY_MIGRATIONS)
    write_pages(connection, 5)
    database.litestream_folder(path).mkdir()  # it comes while we are writing
    write_pages(connection, 60)
    assert wal_bytes(path) > 100 * 4096
    connection.close()
    assert wal_bytes(path) > 100 * 4096


def test_the_wal_of_a_dead_litestream_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CHECKPOINT_PAGES", 20)
    monkeypatch.setattr(database, "ABANDONED_PAGES", 100)
    path = tmp_path / "acme.sqlite3"
    database.litestream_folder(path).mkdir()
    connection = open_database(path, DatabaseSettings(), KEY_MIGRATIONS)
    write_pages(connection, 500)
    assert wal_bytes(path) < 150 * 4096


def test_the_database_is_opened_as_written_in_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "acme.sqlite3"
    connection = open_database(path, DatabaseSettings(busy_timeout_s=1.5), KEY_MIGRATIONS)
    pragmas = {
        name: connection.pragma(name)
        for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys", "secure_delete")
    }
    assert pragmas == {
        "journal_mode": "wal",
        "synchronous": 2,
        "busy_timeout": 1500,
        "foreign_keys": 1,
        "secure_delete": 1,
    }
    assert path.stat().st_mode & 0o777 == 0o600


def test_sqlite_has_the_fix_of_the_wal_reset_corruption() -> None:
    assert tuple(map(int, apsw.sqlite_lib_version().split("."))) >= (3, 51, 3)
