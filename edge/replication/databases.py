"""Which databases a node has, and where their replicas are."""

from dataclasses import dataclass
from pathlib import Path

from contract.litestream_config import DatabaseKind, ReplicatedDatabase, database_bucket
from edge.records.database import DatabaseSettings, database_path, key_database_path, tenants_in

ROLLUPS = "rollups"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDatabase:
    """One database of a node."""

    kind: DatabaseKind
    tenant: str
    path: Path
    bucket: str

    def replicated(self) -> ReplicatedDatabase:
        """As Litestream's settings want it."""
        return ReplicatedDatabase(path=str(self.path), bucket=self.bucket)


def records_of(directory: Path, node: str, tenant: str) -> NodeDatabase:
    """A tenant's records."""
    return NodeDatabase(
        kind=DatabaseKind.RECORDS,
        tenant=tenant,
        path=database_path(directory, tenant),
        bucket=database_bucket(node, DatabaseKind.RECORDS, tenant),
    )


def keys_of(directory: Path, node: str, tenant: str, settings: DatabaseSettings) -> NodeDatabase:
    """The keys of a tenant's records."""
    return NodeDatabase(
        kind=DatabaseKind.KEYS,
        tenant=tenant,
        path=key_database_path(directory, tenant, settings),
        bucket=database_bucket(node, DatabaseKind.KEYS, tenant),
    )


def ledger_of(path: Path, node: str) -> NodeDatabase:
    """A node's ledger of rollups: restored records must not be counted twice."""
    bucket = database_bucket(node, DatabaseKind.LEDGER, ROLLUPS)
    return NodeDatabase(kind=DatabaseKind.LEDGER, tenant=ROLLUPS, path=path, bucket=bucket)


def databases_in(
    directory: Path, node: str, settings: DatabaseSettings, ledger: Path | None = None
) -> tuple[NodeDatabase, ...]:
    """All that exist now."""
    found = [ledger_of(ledger, node)] if ledger is not None else []
    for tenant in tenants_in(directory):
        found += [records_of(directory, node, tenant), keys_of(directory, node, tenant, settings)]
    return tuple(database for database in found if database.path.exists())
