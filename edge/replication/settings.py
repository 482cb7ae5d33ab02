"""Settings of a node's replication service (`replication.toml`)."""

from pathlib import Path

from pydantic import Field

from contract.litestream_config import NatsAccess
from contract.names import NODE_PATTERN
from edge.records.database import DatabaseSettings
from edge.settings_file import Section
from edge.sync.settings import CertificateSection


class NodeSection(Section):
    name: str = Field(pattern=f"^{NODE_PATTERN}$", description="name of this node; its object stores are named by it")


class NatsSection(Section):
    urls: tuple[str, ...] = Field(min_length=1, description="NATS servers of the region, this node's own first")
    ca: Path | None = Field(default=None, description="certificates that the servers' are checked with; none: no TLS")
    agent: CertificateSection | None = Field(default=None, description="user that makes and watches object stores")
    litestream: CertificateSection | None = Field(default=None, description="user that writes the object stores")
    replicas: int = Field(default=1, ge=1, le=3, description="copies of each object store in the region")

    def access(self) -> NatsAccess:
        """As Litestream's settings want it: this node's own server."""
        user = self.litestream
        return NatsAccess(
            url=self.urls[0],
            authority=str(self.ca) if self.ca else None,
            certificate=str(user.certificate) if user else None,
            key=str(user.key) if user else None,
        )


class RecordsSection(Section):
    directory: Path = Field(description="folder of the tenants' databases")
    keys_directory: Path | None = Field(default=None, description="folder of the key databases, if it is another")
    ledger: Path | None = Field(default=None, description="the node's ledger of rollups (the agent's `rollups.db`)")

    def database(self) -> DatabaseSettings:
        """As the records want it."""
        return DatabaseSettings(is_replicated=True, keys_directory=self.keys_directory)


class LitestreamSection(Section):
    directory: Path = Field(description="folder of Litestream's settings and logs")
    program: Path | None = Field(default=None, description="the program, if it is not beside this Python")
    look_ms: int = Field(default=250, ge=50, le=10_000, description="how often the databases are looked at")
    upload_ms: int = Field(default=100, ge=50, le=10_000, description="least time between two uploads of one database")
    bucket_limit_bytes: int = Field(default=8 * 1024**3, ge=1024**2, description="limit of one object store")


class WatchSection(Section):
    stalled_after_s: float = Field(default=10.0, ge=1, le=3600, description="how far behind a replica is an alarm")
    port: int = Field(default=0, ge=0, le=65535, description="port of /metrics on 127.0.0.1; 0: any free one")


class ReplicationSettings(Section):
    node: NodeSection
    nats: NatsSection
    records: RecordsSection
    litestream: LitestreamSection
    watch: WatchSection = WatchSection()
