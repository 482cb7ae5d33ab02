"""Settings of the hub, from `hub.toml`. pydantic stays in here."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from contract.names import NODE_PATTERN
from contract.settings import Section, SettingsError, parse_settings

Name = Annotated[str, StringConstraints(pattern=f"^{NODE_PATTERN}$")]
Port = Annotated[int, Field(ge=0, le=65_535)]


class HubSection(Section):
    """`name` is this instance's, in the lease and in the logs."""

    name: Name
    # How long requests that run may take to end at shutdown.
    drain_s: Annotated[float, Field(ge=0, le=600)] = 10.0


class DatabaseSection(Section):
    """`is_replicated`: a litestream of somebody else's is attached, so we never checkpoint."""

    path: Path
    is_replicated: bool = False


class NatsSection(Section):
    """The hub's nats-server. Without the three files the connection is not encrypted: only for tests on loopback."""

    url: str
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    # Its log, where it says whom it refused, and its monitoring address, where it lists its links.
    server_log: Path | None = None
    monitor: str | None = None


class AdminSection(Section):
    """Where the admin API listens. `address` is what a waiting instance tells clients; by default host and port."""

    host: str = "127.0.0.1"
    port: Port = 7443
    address: str = ""
    authority: Path
    certificate: Path
    key: Path
    revoked_file: Path | None = None


class SigningSection(Section):
    """The Ed25519 key that signs what goes down."""

    key_file: Path


class LeaseSection(Section):
    """`ttl_s`: so long after the active instance died another one may take over."""

    ttl_s: Annotated[float, Field(ge=1, le=60)] = 5.0


class FleetSection(Section):
    """`health_period_s`: how often nodes tell their health; after three periods without, a node is silent."""

    health_period_s: Annotated[float, Field(gt=0, le=60)] = 2.0


class MetricsSection(Section):
    """Prometheus; on loopback, because it has no access control."""

    host: str = "127.0.0.1"
    port: Port = 9443


class InferenceSection(Section):
    """Socket of the inference service whose embedding model computes the vectors of knowledge."""

    socket: Path


class ReplicationSection(Section):
    """Litestream copies the database into the hub's JetStream, as the user of this certificate."""

    # Of Litestream's settings and log.
    directory: Path
    certificate: Path | None = None
    key: Path | None = None
    # The program, if it is not beside this Python.
    program: Path | None = None
    look_ms: Annotated[int, Field(ge=50, le=10_000)] = 250
    upload_ms: Annotated[int, Field(ge=50, le=10_000)] = 100
    stalled_after_s: Annotated[float, Field(ge=1, le=3600)] = 10.0
    bucket_limit_bytes: Annotated[int, Field(ge=1024**2)] = 8 * 1024**3


class EnrolmentSection(Section):
    """Where nodes get their certificates. TLS is that of [admin]; `address` is where nodes reach this hub."""

    # Of borough-authority, which has the key.
    authority_socket: Path
    address: str = Field(min_length=1)
    leaf_port: Port = 7422
    client_port: Port = 4222
    host: str = "127.0.0.1"
    # Without a client certificate, and with one.
    port: Port = 7444
    renewal_port: Port = 7445
    # A source that failed so often within this time is refused.
    failures_allowed: Annotated[int, Field(ge=1, le=1_000)] = 10
    failures_within_s: Annotated[float, Field(ge=1, le=86_400)] = 600.0


class HubSettings(Section):
    """All of `hub.toml`."""

    hub: HubSection
    database: DatabaseSection
    nats: NatsSection
    admin: AdminSection
    signing: SigningSection
    lease: LeaseSection = LeaseSection()
    fleet: FleetSection = FleetSection()
    metrics: MetricsSection = MetricsSection()
    inference: InferenceSection | None = None
    replication: ReplicationSection | None = None
    enrolment: EnrolmentSection | None = None


def load_settings(path: Path) -> HubSettings:
    """Read `hub.toml`. Raises SettingsError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: {error}") from error
    return parse_settings(path, text, HubSettings)
