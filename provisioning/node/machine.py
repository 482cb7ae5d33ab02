"""Where things lie on a real machine, hub or node: the same for everybody, so that nobody configures it."""

import grp
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from provisioning.node.errors import RenderError
from provisioning.node.places import Credential, Service

ETC = Path("/etc/borough")
VAR = Path("/var/lib/borough")
LOG = Path("/var/log/borough")
RUN = Path("/run/borough")
CREDENTIALS = Path("/run/credentials")

DESCRIPTION = ETC / "node.toml"
IDENTITY = ETC / "identity"
SECRETS = ETC / "secrets"
RENDERED = ETC / "rendered"
SYNC = VAR / "sync"
CURRENT_BUNDLE = SYNC / "current"
# The agent's, while this node hears no majority of its siblings (edge/sync/isolation.py).
ISOLATED = SYNC / "isolated"
MODELS = VAR / "models"
SLOTS = RUN / "slots"
# The region's nodes as inference may read them: only call workers may read what the agent keeps.
SIBLINGS = RENDERED / "siblings.json"
ROSTER = CURRENT_BUNDLE / "roster.json"
CORDON = RUN / "cordon"
INFERENCE_SOCKET = RUN / "inference.sock"
# The hub's.
ADMIN = ETC / "admin"
IDENTITY_STORE = VAR / "identity"
AUTHORITY_SOCKET = Path("/run/borough-authority/authority.sock")

AGENT_METRICS_PORT = 9101
LITESTREAM_METRICS_PORT = 9102
INFERENCE_METRICS_PORT = 9103
CONTROLPLANE_METRICS_PORT = 9104
AUTHORITY_METRICS_PORT = 9105
# Where call workers of siblings reach a node's inference.
INFERENCE_PORT = 50_051
ARI_PORT = 8088
ARI_USER = "borough"
# Worker N serves its page and metrics here plus N.
WEB_BASE_PORT = 8080


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine whose files lie below `root`: "/" on itself, a folder where a test or an image is made."""

    root: Path = Path("/")

    def at(self, place: Path) -> Path:
        """Where a place of the machine is reached from here."""
        return self.root / place.relative_to("/")


def credential(service: Service, instance: int | None = None) -> Credential:
    """Files that systemd gives a service (LoadCredential); their place is fixed (systemd.exec(5))."""
    unit = service if instance is None else f"{service}@{instance}"
    return lambda name: CREDENTIALS / f"{unit}.service" / name


def worker_web_port(index: int) -> int:
    """Of the call worker with this number, from 1."""
    return WEB_BASE_PORT + index


def group_id(name: str) -> int | None:
    """The group that may read a rendered file; None where nobody but this user is asked to (not root).

    Raises RenderError.
    """
    if os.geteuid() != 0:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise RenderError(
            f"there is no group {name}", hint="The role services makes the groups; play it first."
        ) from None


GroupId = Callable[[str], int | None]
