"""The audit chain: every way of changing it on disk is found, and where."""

from pathlib import Path

import apsw
import pytest

from controlplane.audit import AuditLog, append_entry
from controlplane.database import HubDatabase


async def write_three(path: Path) -> None:
    async with HubDatabase(path) as database:
        log = AuditLog(database)
        for target in ("one", "two", "three"):
            await log.append(actor="ada", role="operator", action="documents.apply", target=target)


async def first_broken(path: Path) -> int:
    async with HubDatabase(path) as database:
        return (await AuditLog(database).verify()).first_broken_seq


async def test_an_untouched_chain_is_whole(tmp_path: Path) -> None:
    await write_three(tmp_path / "hub.sqlite3")
    async with HubDatabase(tmp_path / "hub.sqlite3") as database:
        verdict = await AuditLog(database).verify()
        newest = await AuditLog(database).newest(2)
    assert (verdict.entries, verdict.first_broken_seq) == (3, 0)
    assert [entry.target for entry in newest] == ["three", "two"]
    assert newest[0].outcome == "ok"


async def test_an_empty_chain_is_whole(tmp_path: Path) -> None:
    assert await first_broken(tmp_path / "hub.sqlite3") == 0


@pytest.mark.parametrize(
    ("tampering", "expected"),
    [
        ("UPDATE audit_entries SET actor = 'eve' WHERE seq = 2", 2),
        ("UPDATE audit_entries SET at_ms = at_ms + 1 WHERE seq = 1", 1),
        ("UPDATE audit_entries SET outcome = 'refused' WHERE seq = 3", 3),
        ("DELETE FROM audit_entries WHERE seq = 2", 2),
        ("DELETE FROM audit_entries WHERE seq = 3", 3),
        ("DELETE FROM audit_entries", 1),
        ("UPDATE audit_entries SET hash = randomblob(32) WHERE seq = 1", 1),
        ("UPDATE audit_entries SET previous_hash = randomblob(32) WHERE seq = 2", 2),
        ("UPDATE audit_entries SET seq = seq + 10", 1),
    ],
)
async def test_tampering_is_found_at_the_first_broken_entry(tmp_path: Path, tampering: str, expected: int) -> None:
    path = tmp_path / "hub.sqlite3"
    await write_three(path)
    connection = apsw.Connection(str(path))
    connection.execute(tampering)
    connection.close()
    assert await first_broken(path) == expected


async def test_the_chain_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "hub.sqlite3"
    await write_three(path)
    await write_three(path)
    assert await first_broken(path) == 0


async def test_an_entry_inside_a_transaction_that_fails_is_not_stored(tmp_path: Path) -> None:
    def fail(connection: apsw.Connection) -> None:
        append_entry(connection, actor="ada", role="admin", action="documents.apply", target="x")
        raise RuntimeError("refused")

    async with HubDatabase(tmp_path / "hub.sqlite3") as database:
        with pytest.raises(RuntimeError):
            await database.write(fail)
        assert (await AuditLog(database).verify()).entries == 0
