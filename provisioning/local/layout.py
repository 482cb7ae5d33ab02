"""Where a local region keeps things, and the files by which its processes are told about each other."""

import json
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioning.local.errors import NotRunningError
from provisioning.local.plan import NodeLayout
from provisioning.toml_text import TomlSections, toml_text

REPOSITORY = Path(__file__).resolve().parents[2]
DEFAULT_STATE = REPOSITORY / ".state"
EXAMPLE_TENANTS = REPOSITORY / "edge" / "tenants"


@dataclass(frozen=True, slots=True)
class StateLayout:
    """The state folder of a machine (`.state` in a checkout): what its nodes share, and a folder for each of them."""

    root: Path = DEFAULT_STATE

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def prepared_audio(self) -> Path:
        return self.root / "prepared"

    @property
    def vectors(self) -> Path:
        return self.root / "vectors"

    @property
    def run(self) -> Path:
        """Everything of the region that is running now."""
        return self.root / "run"

    @property
    def region_file(self) -> Path:
        """Written when the region serves, removed when it stops; the bench reads it."""
        return self.run / "region.json"

    @property
    def supervisor_log(self) -> Path:
        return self.run / "log" / "supervisor.log"

    @property
    def identity(self) -> Path:
        """The authority of this machine and every certificate it issued."""
        return self.root / "identity"

    @property
    def nats(self) -> Path:
        """A folder for each NATS server."""
        return self.root / "nats"

    @property
    def admin_context(self) -> Path:
        """How an admin's command line reaches the hub."""
        return self.run / "admin.toml"

    @property
    def hub(self) -> NodeLayout:
        return NodeLayout(self.root / "hub")

    def node(self, name: str) -> NodeLayout:
        return NodeLayout(self.root / "nodes" / name)

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"


def secret_file(layout: StateLayout, name: str) -> Path:
    """The file of a generated secret (0600), made when it does not exist."""
    path = layout.secrets / name
    layout.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32), encoding="utf-8")
    return path


# Ports are chosen long before they are bound: one that was given is not given again, by this process.
_given_ports: set[int] = set()


def free_port(kind: socket.SocketKind) -> int:
    """A loopback port nobody listens on now (SOCK_DGRAM for SIP, SOCK_STREAM for HTTP), each only once."""
    while True:
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in _given_ports:
            _given_ports.add(port)
            return port


def write_toml(path: Path, sections: TomlSections) -> Path:
    """Write a settings file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(toml_text(sections), encoding="utf-8")
    return path


def read_region_file(layout: StateLayout) -> dict[str, Any]:
    """What `borough up` says about the running region. Raises NotRunningError."""
    try:
        document: dict[str, Any] = json.loads(layout.region_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotRunningError(f"no region is running ({layout.region_file} does not exist)") from None
    return document
