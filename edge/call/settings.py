"""Settings of a call worker (`calls.toml`)."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from contract.names import NODE_PATTERN
from edge.inference.client_settings import SiblingSection
from edge.records.database import DatabaseSettings
from edge.settings_file import Section


class WorkerSection(Section):
    name: str = Field(pattern=r"^[a-z0-9-]{1,40}$", description="name of the worker and of its Stasis app")
    drain_s: float = Field(default=30.0, ge=0, le=3600, description="how long running calls may end at shutdown")


class AsteriskSection(Section):
    url: str = Field(pattern=r"^http://", description="ARI and media websocket of the node's Asterisk")
    user: str = Field(description="user of ARI")
    password_file: Path = Field(description="file that holds the user's password")
    trunk: str = Field(
        default="trunk", pattern=r"^[A-Za-z0-9_-]{1,32}$", description="SIP endpoint that numbers are rung at"
    )


class InferenceSection(Section):
    socket: Path = Field(description="unix socket of the inference service")
    siblings: SiblingSection | None = Field(
        default=None, description="inference of the region's other nodes; absent: this node's alone"
    )


class TenantsSection(Section):
    directory: Path = Field(description="one folder of documents a tenant, for a node without a hub")


class SyncSection(Section):
    directory: Path = Field(description="folder that the node agent keeps: bundles and knowledge from the hub")


class SlotsSection(Section):
    directory: Path = Field(description="folder of slot files, shared by all workers of the node")
    capacity: int = Field(ge=1, le=1000, description="calls at once on this node, over all workers")
    cordon_file: Path | None = Field(
        default=None, description="file that, while it is there, has the node refuse new calls"
    )


class RecordsSection(Section):
    directory: Path = Field(description="folder of the tenants' databases")
    subject_key_file: Path = Field(description="key of the HMAC that names callers")
    keys_directory: Path | None = Field(default=None, description="folder of the key databases, if it is another")
    master_key_file: Path | None = Field(default=None, description="master keys; none: made beside the key databases")
    is_replicated: bool = Field(default=False, description="whether Litestream copies the databases, and checkpoints")

    def database(self) -> DatabaseSettings:
        """As the records want it."""
        return DatabaseSettings(
            is_replicated=self.is_replicated, keys_directory=self.keys_directory, master_key_file=self.master_key_file
        )


class SessionsSection(Section):
    """Absent: callers who were cut off by the loss of a node are not recognised when they ring back."""

    node: str = Field(pattern=f"^{NODE_PATTERN}$", description="name of this node")
    urls: tuple[str, ...] = Field(min_length=1, description="NATS servers of the region, this node's own first")
    authority: Path | None = Field(
        default=None, description="certificate that the servers' are checked with; none: no TLS"
    )
    certificate: Path | None = Field(default=None, description="this node's certificate in the role calls (PEM)")
    key: Path | None = Field(default=None, description="private key of the certificate (PEM)")


class SpeechSection(Section):
    prepared: Path = Field(description="folder of prepared audio, shared by the workers")
    vectors: Path = Field(description="folder of cached text vectors, shared by the workers")


class ModelsSection(Section):
    vad: Path = Field(description="folder of the voice activity model in the model store")


class WebSection(Section):
    host: str = Field(default="127.0.0.1", description="address the page is served on")
    port: int = Field(ge=0, le=65535, description="page, WebRTC signalling and /metrics")


class CallsSettings(Section):
    worker: WorkerSection
    inference: InferenceSection
    tenants: TenantsSection | None = Field(default=None, description="agents of a node without a hub")
    sync: SyncSection | None = Field(default=None, description="agents that the hub sends; instead of `tenants`")
    slots: SlotsSection
    records: RecordsSection
    speech: SpeechSection
    models: ModelsSection
    web: WebSection
    sessions: SessionsSection | None = Field(
        default=None, description="how the region is told where calls stand; absent on a node on its own"
    )
    asterisk: AsteriskSection | None = Field(default=None, description="absent on a node that only serves WebRTC")

    @model_validator(mode="after")
    def _has_one_source_of_agents(self) -> Self:
        if (self.tenants is None) == (self.sync is None):
            raise ValueError("give either [tenants] directory or [sync] directory")
        return self
