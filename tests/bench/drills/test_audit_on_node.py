"""The audit chains of a machine, walked there: real records, and a hub's database."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from bench.drills import audit_on_node
from bench.drills.region import WHOLE, Chain
from controlplane.audit import AuditLog
from controlplane.database import HubDatabase
from edge.records.database import database_path
from edge.records.store import CallStore, StoreSettings
from tests.edge.records.examples import a_call, a_turn


@pytest.fixture
async def node(tmp_path: Path) -> Path:
    records = tmp_path / "records"
    async with CallStore(records, StoreSettings()) as store:
        for record in (a_call(), a_turn(), a_call(ended=True)):
            await store.save(record)
    (tmp_path / "calls-1.toml").write_text(f'[records]\ndirectory = "{records}"\n', encoding="utf-8")
    return tmp_path


@pytest.fixture
async def hub(tmp_path: Path) -> Path:
    async with HubDatabase(tmp_path / "hub.db") as database:
        for target in ("one", "two"):
            await AuditLog(database).append(actor="ada", role="operator", action="documents.apply", target=target)
    (tmp_path / "hub.toml").write_text(f'[database]\npath = "{tmp_path / "hub.db"}"\n', encoding="utf-8")
    return tmp_path


def spoil(path: Path, sql: str) -> None:
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        connection.execute(sql)


async def test_the_chain_of_every_tenant_is_walked(node: Path) -> None:
    (chain,) = [Chain(place="a-1", **one) for one in audit_on_node.node(node)]
    assert (chain.name, chain.verdict, chain.entries, chain.is_whole) == ("acme", WHOLE, 4, True)
    broken = "DROP TRIGGER audit_is_never_changed; UPDATE audit SET actor = 'nobody' WHERE seq = 2"
    spoil(database_path(node / "records", "acme"), broken)
    (chain,) = [Chain(place="a-1", **one) for one in audit_on_node.node(node)]
    assert not chain.is_whole
    assert "first broken entry 2" in chain.detail


async def test_the_hubs_chain_is_walked(hub: Path) -> None:
    (chain,) = [Chain(place="hub", **one) for one in audit_on_node.hub(hub)]
    assert (chain.entries, chain.is_whole) == (2, True)
    spoil(hub / "hub.db", "DELETE FROM audit_entries WHERE seq = 2")
    (chain,) = [Chain(place="hub", **one) for one in audit_on_node.hub(hub)]
    assert (chain.is_whole, chain.detail) == (False, "first broken entry 2")


def test_secrets_of_a_service_are_roots_own() -> None:
    of_unit = Path("/run/credentials/borough-calls@1.service/master")
    assert audit_on_node._secret(of_unit) == Path("/etc/borough/secrets/master")
    assert audit_on_node._secret(Path("/keys/master.key")) == Path("/keys/master.key")


def test_it_is_sent_to_machines_as_it_stands(node: Path) -> None:
    source = Path(audit_on_node.__file__).read_bytes()
    command = [sys.executable, "-I", "-", "node", str(node)]
    answer = subprocess.run(command, input=source, capture_output=True, check=True, env={"PATH": os.environ["PATH"]})
    assert [one["verdict"] for one in json.loads(answer.stdout)] == [WHOLE]
