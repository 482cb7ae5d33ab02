"""Litestream's settings as Litestream reads them."""

import json
import subprocess
import sys
from pathlib import Path

from contract.litestream_config import (
    KEYS_PACE,
    RECORDS_PACE,
    DatabaseKind,
    NatsAccess,
    ReplicatedDatabase,
    database_bucket,
    render,
)

DATABASE = ReplicatedDatabase(path="/records/acme.sqlite3", bucket="records-node-1_r_acme")


def test_each_database_has_a_bucket_of_its_own() -> None:
    names = {
        database_bucket(node, kind, tenant)
        for node in ("node-1", "node-2")
        for kind in DatabaseKind
        for tenant in ("acme", "acme_k", "k_acme")
    }
    assert len(names) == 18
    assert database_bucket("node-1", DatabaseKind.RECORDS, "acme") == DATABASE.bucket


def test_a_certificate_names_the_user() -> None:
    access = NatsAccess(url="tls://node-1:4222", authority="/ca.pem", certificate="/c.pem", key="/k.pem")
    (database,) = json.loads(render((DATABASE,), access, RECORDS_PACE, metrics_port=9000))["dbs"]
    replica = database["replica"]
    assert replica["url"] == "nats://node-1:4222/records-node-1_r_acme"
    assert (replica["tls"], replica["root-cas"]) == (True, ["/ca.pem"])
    assert (replica["client-cert"], replica["client-key"]) == ("/c.pem", "/k.pem")


def test_keys_are_forgotten_within_minutes() -> None:
    settings = json.loads(render((DATABASE,), NatsAccess(url="nats://n"), KEYS_PACE, metrics_port=None))
    assert settings["snapshot"] == {"interval": "60s", "retention": "60s"}
    assert "addr" not in settings


def test_litestream_itself_understands_it(tmp_path: Path) -> None:
    config = tmp_path / "litestream.yml"
    config.write_text(render((DATABASE,), NatsAccess(url="nats://127.0.0.1:1"), RECORDS_PACE, metrics_port=None))
    argv = [str(Path(sys.executable).with_name("litestream")), "databases", "-config", str(config)]
    result = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20)
    assert DATABASE.path in result.stdout
