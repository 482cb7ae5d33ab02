"""`borough audit verify` says what it found, and its exit code too."""

import contextlib
import json
from pathlib import Path

import apsw
from click.testing import CliRunner

from edge.records.cli import audit
from edge.records.database import database_path
from edge.records.errors import AuditMissingError
from edge.records.store import CallStore, StoreSettings
from tests.edge.records.examples import a_call, a_turn


async def test_a_whole_chain_exits_with_0_and_a_broken_one_with_1(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        for record in (a_call(), a_turn(), a_call(ended=True)):
            await store.save(record)
    whole = CliRunner().invoke(audit, ["verify", "--records", str(tmp_path)])
    assert (whole.exit_code, whole.output) == (0, "acme: whole, 4 entries, anchor holds at entry 4\n")
    with contextlib.closing(apsw.Connection(str(database_path(tmp_path, "acme")))) as connection:
        connection.execute("DROP TRIGGER audit_is_never_changed; UPDATE audit SET actor = 'nobody' WHERE seq = 2")
    broken = CliRunner().invoke(audit, ["verify", "--records", str(tmp_path), "--json"])
    assert broken.exit_code == 1
    (report,) = json.loads(broken.output)
    assert (report["tenant"], report["first_broken"], report["is_whole"]) == ("acme", 2, False)


async def test_what_cannot_be_verified_here_exits_with_3(tmp_path: Path) -> None:
    async with CallStore(tmp_path, StoreSettings()) as store:
        await store.save(a_call())
    none = str(tmp_path / "no-master.key")
    result = CliRunner().invoke(audit, ["verify", "--records", str(tmp_path), "--master-key", none])
    assert (result.exit_code, "acme: cannot be verified here, " in result.output) == (3, True)


def test_a_folder_without_records_is_an_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(audit, ["verify", "--records", str(tmp_path)])
    assert isinstance(result.exception, AuditMissingError)
