"""The settings of Litestream as text. Pure: the hub and the nodes render their own, with their own paths.

Each database has an object store of its own: Litestream 0.5.17 keeps no prefix inside a NATS bucket, two databases in
one would overwrite each other's files. Retention is a setting of a whole process, so databases that must be forgotten
soon (keys) have a process of their own.
"""

import json
from dataclasses import dataclass
from enum import StrEnum

from contract.subjects import replica_bucket


class DatabaseKind(StrEnum):
    """What is in a node's database, as buckets spell it."""

    RECORDS = "r"
    KEYS = "k"
    LEDGER = "l"


def database_bucket(node: str, kind: DatabaseKind, tenant: str) -> str:
    """The object store of one database of a node. Node names hold no underscore, so the parts can be told.

    A node has one ledger of rollups; its `tenant` is "rollups".
    """
    return f"{replica_bucket(node)}_{kind}_{tenant}"


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsAccess:
    """How Litestream reaches JetStream; the certificate names its user. Without TLS: for tests on loopback."""

    url: str
    authority: str | None = None
    certificate: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicatedDatabase:
    """A database file and its bucket."""

    path: str
    bucket: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationPace:
    """How often Litestream does what. `look_ms` and `upload_ms` bound what is lost with a node: their sum, and the time
    of an upload (edge/replication/README.md has what other values cost). `checkpoint_pages`: of 4 KiB; `truncate_pages`
    is the emergency: Litestream then blocks writers until the WAL is empty.
    """

    look_ms: int = 250
    upload_ms: int = 100
    snapshot_s: int = 6 * 3600
    retention_s: int = 24 * 3600
    level_s: tuple[int, ...] = (30, 300, 3600)
    newest_kept_s: int = 60
    checkpoint_pages: int = 1000
    truncate_pages: int = 25_000


RECORDS_PACE = ReplicationPace()
# A destroyed key must go from the replica within minutes: a whole copy every minute, older ones are deleted.
KEYS_PACE = ReplicationPace(snapshot_s=60, retention_s=60, level_s=(15,), newest_kept_s=15, checkpoint_pages=50)


def render(
    databases: tuple[ReplicatedDatabase, ...], nats: NatsAccess, pace: ReplicationPace, *, metrics_port: int | None
) -> str:
    """The content of litestream.yml (JSON, which is YAML)."""
    document: dict[str, object] = {
        "logging": {"level": "warn", "type": "json", "stderr": True},
        "snapshot": {"interval": f"{pace.snapshot_s}s", "retention": f"{pace.retention_s}s"},
        "levels": [{"interval": f"{seconds}s"} for seconds in pace.level_s],
        "l0-retention": f"{pace.newest_kept_s}s",
        "verify-compaction": True,
        "shutdown-sync-timeout": "5s",
        "dbs": [_database(database, nats, pace) for database in databases],
    }
    if metrics_port is not None:
        document["addr"] = f"127.0.0.1:{metrics_port}"
    return json.dumps(document, indent=2) + "\n"


def _database(database: ReplicatedDatabase, nats: NatsAccess, pace: ReplicationPace) -> dict[str, object]:
    return {
        "path": database.path,
        "monitor-interval": f"{pace.look_ms}ms",
        "checkpoint-interval": "60s",
        "min-checkpoint-page-count": pace.checkpoint_pages,
        "truncate-page-n": pace.truncate_pages,
        "replica": _replica(database.bucket, nats, pace),
    }


def _replica(bucket: str, nats: NatsAccess, pace: ReplicationPace) -> dict[str, object]:
    replica: dict[str, object] = {
        "type": "nats",
        # In the URL: without a path there Litestream takes "." for the bucket, whatever the key `bucket` says.
        "url": f"nats://{nats.url.partition('://')[2]}/{bucket}",
        "sync-interval": f"{pace.upload_ms}ms",
        # The local copy of a file that is still to be uploaded may be torn by a power cut: begin afresh, do not stop.
        "auto-recover": True,
        "reconnect-wait": "200ms",
        "timeout": "5s",
    }
    if nats.authority is not None:
        replica["tls"] = True
        replica["root-cas"] = [nats.authority]
    if nats.certificate is not None:
        replica["client-cert"] = nats.certificate
        replica["client-key"] = nats.key
    return replica
