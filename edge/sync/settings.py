"""Settings of the node agent (`sync.toml`)."""

from pathlib import Path

from pydantic import Field

from contract.names import NODE_PATTERN, REGION_PATTERN
from edge.settings_file import Section


class NodeSection(Section):
    region: str = Field(pattern=f"^{REGION_PATTERN}$", description="region of this node, also its JetStream domain")
    name: str = Field(pattern=f"^{NODE_PATTERN}$", description="name of this node, unique in its region")


class CertificateSection(Section):
    certificate: Path = Field(description="client certificate (PEM); the URI in it is the NATS user")
    key: Path = Field(description="private key of the certificate (PEM)")


class NatsSection(Section):
    urls: tuple[str, ...] = Field(min_length=1, description="NATS servers of the region, this node's own first")
    ca: Path | None = Field(default=None, description="certificates that the servers' are checked with; none: no TLS")
    agent: CertificateSection | None = Field(default=None, description="the agent's user in the account REGION")
    border: CertificateSection | None = Field(default=None, description="the agent's user in the account BORDER")
    system: CertificateSection | None = Field(default=None, description="the agent's user in the account SYS")
    server_log: Path | None = Field(
        default=None, description="log of this node's nats-server; border refusals stand in it"
    )
    mirror_replicas: int = Field(default=1, ge=1, le=3, description="copies of each mirror in the region")


class HubSection(Section):
    trusted_keys: tuple[Path, ...] = Field(
        min_length=1, description="public keys (PEM) that may sign, for rotation several"
    )


class SyncSection(Section):
    directory: Path = Field(description="folder of bundles, knowledge and what waits for the hub; workers read it")
    bundles_kept: int = Field(default=3, ge=2, le=100, description="bundles kept on disk, the running one included")
    bundle_limit_bytes: int = Field(
        default=64 * 1024 * 1024, ge=1024, description="largest bundle once unpacked; a larger one is refused"
    )
    snapshot_limit_bytes: int = Field(
        default=4 * 1024**3, ge=1024, description="largest knowledge snapshot; a larger one is refused"
    )
    workers_expected: int = Field(default=0, ge=0, le=64, description="call workers of this node; fewer is an alarm")
    workers_within_s: float = Field(
        default=10.0, gt=0, le=600, description="how long workers may take to run a new bundle before it is an alarm"
    )


class RecordsSection(Section):
    directory: Path = Field(description="folder of the tenants' databases, which rollups are counted from")


class SlotsSection(Section):
    directory: Path = Field(description="folder of slot files, as the call workers have it")
    capacity: int = Field(ge=1, le=1000, description="calls at once on this node")
    cordon_file: Path | None = Field(
        default=None, description="file that, while it is there, has the node refuse new calls"
    )


class ReplicationSection(Section):
    keys_directory: Path | None = Field(default=None, description="folder of the key databases, if it is another")
    stalled_after_s: float = Field(default=10.0, ge=1, le=3600, description="how far behind a replica is an alarm")


class DiskSection(Section):
    ballast_bytes: int = Field(
        default=64 * 1024 * 1024, ge=0, description="room held back for the records, given up when the disk is full"
    )


class RollupsSection(Section):
    every_s: float = Field(default=60.0, ge=0.1, le=3600, description="time between rollups")
    drained_per_s: float = Field(default=50.0, gt=0, le=10_000, description="rollups sent at most while catching up")
    alarm_waiting: int = Field(default=30, ge=1, description="waiting rollups that are an alarm")


class WatchSection(Section):
    health_every_s: float = Field(default=2.0, ge=0.1, le=60, description="time between health messages and pings")
    stale_after_s: float = Field(default=6.0, ge=0.2, le=600, description="age of the newest beat that is an alarm")
    heal_after_s: float = Field(default=10.0, ge=0.2, le=3600, description="stalled this long before the first healing")
    heal_at_most_every_s: float = Field(
        default=300.0,
        ge=1,
        le=86_400,
        description="longest pause between two attempts at healing; it doubles up to this",
    )
    isolated_after_s: float = Field(
        default=2.0, ge=1.5, le=60, description="without most of the region's servers this long, the node is isolated"
    )
    rejoined_after_s: float = Field(
        default=5.0, ge=1, le=600, description="with most of them, and a leader, this long, it takes calls again"
    )


class MetricsSection(Section):
    host: str = Field(default="127.0.0.1", description="address of /metrics and /ready")
    port: int = Field(ge=0, le=65535, description="port of /metrics and /ready")


class SyncSettings(Section):
    node: NodeSection
    nats: NatsSection
    hub: HubSection
    sync: SyncSection
    records: RecordsSection
    metrics: MetricsSection
    slots: SlotsSection | None = Field(default=None, description="absent on a node that serves no calls")
    replication: ReplicationSection | None = Field(default=None, description="absent where records are not replicated")
    disk: DiskSection = Field(default_factory=DiskSection)
    rollups: RollupsSection = Field(default_factory=RollupsSection)
    watch: WatchSection = Field(default_factory=WatchSection)
