"""The hub's database on a real file: all or nothing, migrations by number, one writer."""

import asyncio
from pathlib import Path

import apsw
import pytest

from controlplane.database import HubDatabase, Migration, load_migrations, migrate
from controlplane.errors import HubDatabaseError, HubSchemaTooNewError


async def test_what_is_written_is_read_by_another_connection(tmp_path: Path) -> None:
    async with HubDatabase(tmp_path / "hub.sqlite3") as database:
        await database.write(lambda c: c.execute("CREATE TABLE t (n INTEGER) STRICT; INSERT INTO t VALUES (7)"))
        assert await database.read(lambda c: c.execute("SELECT n FROM t").get) == 7


async def test_an_error_undoes_the_whole_transaction(tmp_path: Path) -> None:
    def fail(connection: apsw.Connection) -> None:
        connection.execute("INSERT INTO t VALUES (1)")
        raise RuntimeError("in the middle")

    async with HubDatabase(tmp_path / "hub.sqlite3") as database:
        await database.write(lambda c: c.execute("CREATE TABLE t (n INTEGER) STRICT"))
        with pytest.raises(RuntimeError, match="in the middle"):
            await database.write(fail)
        assert await database.read(lambda c: c.execute("SELECT count(*) FROM t").get) == 0


async def test_writes_of_many_tasks_are_serialised(tmp_path: Path) -> None:
    def add(connection: apsw.Connection) -> None:
        count = connection.execute("SELECT n FROM t").get
        connection.execute("UPDATE t SET n = ?", (count + 1,))

    async with HubDatabase(tmp_path / "hub.sqlite3") as database:
        await database.write(lambda c: c.execute("CREATE TABLE t (n INTEGER) STRICT; INSERT INTO t VALUES (0)"))
        async with asyncio.TaskGroup() as tasks:
            for _ in range(100):
                tasks.create_task(database.write(add))
        assert await database.read(lambda c: c.execute("SELECT n FROM t").get) == 100


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    async with HubDatabase(tmp_path / "hub.sqlite3") as database:
        with pytest.raises(HubDatabaseError):
            await database.read(lambda c: c.execute("DELETE FROM audit_entries"))


async def test_a_closed_database_says_so(tmp_path: Path) -> None:
    async with HubDatabase(tmp_path / "hub.sqlite3") as database:
        pass
    with pytest.raises(HubDatabaseError, match="closed"):
        await database.read(lambda c: c.execute("SELECT 1").get)


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite3"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(HubDatabaseError, match=r"hub\.sqlite3"):
        async with HubDatabase(path):
            pass


async def test_a_replicated_database_is_never_checkpointed_by_us(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite3"
    async with HubDatabase(path, is_replicated=True) as database:
        await database.write(lambda c: c.execute("CREATE TABLE t (n INTEGER) STRICT"))
    assert (tmp_path / "hub.sqlite3-wal").stat().st_size > 0


def test_a_step_that_comes_later_with_a_lower_number_is_still_applied() -> None:
    connection = apsw.Connection(":memory:")
    late = Migration(version=5, name="0005_create_five", sql="CREATE TABLE five (n INTEGER) STRICT")
    early = Migration(version=20, name="0020_create_twenty", sql="CREATE TABLE twenty (n INTEGER) STRICT")
    migrate(connection, (early,))
    migrate(connection, (late, early))
    assert [row[0] for row in connection.execute("SELECT version FROM schema_versions ORDER BY 1")] == [5, 20]


def test_a_database_of_a_newer_release_is_refused() -> None:
    connection = apsw.Connection(":memory:")
    migrate(connection, (Migration(version=9999, name="9999_create_future", sql="SELECT 1"),))
    with pytest.raises(HubSchemaTooNewError, match="9999"):
        migrate(connection, load_migrations())


def test_every_prefix_of_the_migrations_upgrades_to_the_same_schema() -> None:
    def schema(connection: apsw.Connection) -> list[str]:
        return sorted(str(row[0]) for row in connection.execute("SELECT sql FROM sqlite_schema"))

    steps = load_migrations()
    fresh = apsw.Connection(":memory:")
    migrate(fresh, steps)
    for length in range(len(steps)):
        connection = apsw.Connection(":memory:")
        migrate(connection, steps[:length])
        migrate(connection, steps)
        assert schema(connection) == schema(fresh)
