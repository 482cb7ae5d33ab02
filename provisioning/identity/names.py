"""Who a certificate stands for: a service on a node, a node of the hub, or a person with a role.

A service is named by one URI in the certificate, `borough://<site>/<node>/<role>/<generation>`; NATS maps it to the
user of the same name (`verify_and_map`). The generation grows with every certificate, so that a single one can be
withdrawn: NATS knows no list of revoked serial numbers. A site is a region or the hub. Pure.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from contract.names import inference_host, is_region
from provisioning.identity.errors import IdentityNameError

HUB_SITE = "hub"
_HOST = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_PERSON = re.compile(r"[a-z0-9][a-z0-9._@-]{0,63}")


class ServiceRole(StrEnum):
    """What a service is; what it may do is written in provisioning/nats/permissions.py."""

    SERVER = "server"  # a nats-server, towards its clients and its cluster
    LEAF = "leaf"  # the link from a node's nats-server to the hub
    AGENT = "agent"
    BORDER = "border"
    CALLS = "calls"
    LITESTREAM = "litestream"
    SYSTEM = "system"
    METRICS = "metrics"  # a node's metrics, towards the observing nodes of its region; no NATS user
    INFERENCE = "inference"  # a node's models, towards the call workers of its siblings; no NATS user
    CONTROLPLANE = "controlplane"  # the hub's services; also serves the admin API


HUB_ROLES = (ServiceRole.SERVER, ServiceRole.CONTROLPLANE, ServiceRole.LITESTREAM, ServiceRole.SYSTEM)
NODE_ROLES = (
    ServiceRole.SERVER,
    ServiceRole.LEAF,
    ServiceRole.AGENT,
    ServiceRole.BORDER,
    ServiceRole.CALLS,
    ServiceRole.LITESTREAM,
    ServiceRole.SYSTEM,
    ServiceRole.METRICS,
    ServiceRole.INFERENCE,
)
# Roles whose certificate others connect to; the rest only ever connect.
LISTENING_ROLES = frozenset({ServiceRole.SERVER, ServiceRole.CONTROLPLANE, ServiceRole.METRICS, ServiceRole.INFERENCE})


class PersonRole(StrEnum):
    """Roles of the admin API (contract/admin.proto)."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    COMPLIANCE = "compliance"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceName:
    """A service of a node of a site."""

    site: str
    node: str
    role: ServiceRole

    def __post_init__(self) -> None:
        """Raises IdentityNameError for what cannot be a subject token and a host name."""
        for what, name in (("site", self.site), ("node", self.node)):
            if not is_region(name):
                raise IdentityNameError(f"{what} {name!r} is no name of lower-case letters, digits and hyphens")
        if self.role not in (HUB_ROLES if self.site == HUB_SITE else NODE_ROLES):
            raise IdentityNameError(f"there is no role {self.role} at {self.site}")

    def uri(self, generation: int) -> str:
        """The name in the certificate, and of the NATS user."""
        return f"borough://{self.site}/{self.node}/{self.role}/{generation}"

    def reached_at(self, addresses: Sequence[str]) -> tuple[str, ...]:
        """What stands in the certificate of who is reached at these addresses; nothing for who only connects."""
        if self.role not in LISTENING_ROLES:
            return ()
        own = (inference_host(self.site, self.node),) if self.role is ServiceRole.INFERENCE else ()
        return (*addresses, *own)

    @property
    def key(self) -> str:
        """The name of the folder its certificates lie in."""
        return f"{self.site}/{self.node}/{self.role}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonName:
    """A person who uses the admin API, in one role."""

    name: str
    role: PersonRole

    def __post_init__(self) -> None:
        """Raises IdentityNameError for a name that could not be written to the audit log as it is."""
        if _PERSON.fullmatch(self.name) is None:
            raise IdentityNameError(f"{self.name!r} is no name of lower-case letters, digits and . _ @ -")

    @property
    def key(self) -> str:
        """The name of the folder its certificates lie in."""
        return f"people/{self.name}"


def is_host(text: str) -> bool:
    """Whether this is an IP address, or a host name in lower case."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return _HOST.fullmatch(text) is not None and not text.replace(".", "").isdigit()
    return True
