"""Where the services of a hub or node find each other, and what each is given. Pure.

Two fill this in: a real machine, where everything has its fixed place and keys come as systemd credentials
(provisioning/node/machine.py), and a developer's machine, where several nodes share one (provisioning/local).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Service(StrEnum):
    """The services that have settings; on a machine the names of their units."""

    NATS = "borough-nats"
    ARBITER = "borough-nats-arbiter"  # second server of the first node in a region of two
    INFERENCE = "borough-inference"
    ASTERISK = "borough-asterisk"
    CALLS = "borough-calls"  # one unit a worker: borough-calls@<number>
    AGENT = "borough-agent"
    LITESTREAM = "borough-litestream"
    CONTROLPLANE = "borough-controlplane"
    AUTHORITY = "borough-authority"


# File of what a service is given by name: "<role>.pem", "<role>.key", "authority.pem", "signing.pub", "signing.key",
# or a secret: "ari", "subjects", "master".
Credential = Callable[[str], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class AsteriskPlace:
    """Where a node's Asterisk answers, without a slash at the end; `trunk` is the endpoint that numbers are rung at."""

    url: str
    user: str
    trunk: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelChoice:
    """Models by name; None: not served."""

    asr: str | None = None
    tts: str | None = None
    llm: str | None = None
    embedding: str | None = None
    # Nobody waits on the telephone for the hub's: a first catalogue has hundreds of thousands of texts.
    embedding_threads: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SiblingPlaces:
    """How nodes of a region answer for each other's inference. Of both rosters the reader notices another by itself."""

    # Where this node's inference lets call workers of siblings in; the port is the same on all.
    host: str
    port: int
    # The region's nodes as the hub sent them: for inference, and for call workers.
    inference_roster: Path
    calls_roster: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlaces:
    """One node. Of `credential` the service is the one that reads the file."""

    region: str
    name: str
    capacity: int
    workers: int
    # NATS servers of the region, the node's own first; empty: the node serves `tenants` from disk.
    urls: Sequence[str]
    replicas: int
    server_log: Path | None
    credential: Callable[[Service], Credential]
    records: Path
    # None: beside the records, with a master key made there.
    keys: Path | None
    sync: Path
    tenants: Path | None = None
    slots: Path
    # While it exists the node takes no new calls. None: nobody cordons it here.
    cordon: Path | None = None
    litestream: Path
    prepared: Path
    vectors: Path
    models: Path
    vad: str
    inference_socket: Path
    # None: calls come over WebRTC only.
    asterisk: AsteriskPlace | None
    # None: nobody but its own inference answers a call worker.
    siblings: SiblingPlaces | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentPlaces:
    """Where a hub enrols nodes, and what it tells them of itself."""

    authority_socket: Path
    address: str
    host: str
    port: int
    renewal_port: int
    leaf_port: int
    client_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HubPlaces:
    """A hub."""

    name: str
    nats_url: str
    nats_monitor: str
    server_log: Path
    credential: Callable[[Service], Credential]
    database: Path
    revoked_file: Path
    litestream: Path
    inference_socket: Path
    admin_host: str
    admin_port: int
    metrics_port: int
    # None: nodes are given their certificates by somebody else.
    enrolment: EnrolmentPlaces | None = None
